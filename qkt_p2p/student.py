"""The asking side of one query, in the paper's order: ask, mask, collect, phase 1, phase 2, validate.

Network and journal are awaited here; learning happens behind the `Learner` seam: in the worker
process of a daemon, or in the same process in a benchmark.
"""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import structlog

from qkt_p2p.asking.collecting import Collecting
from qkt_p2p.asking.collection import Collection
from qkt_p2p.asking.probing import probe_all
from qkt_p2p.asking.retry import USUAL_PATIENCE
from qkt_p2p.asking.selection import (
    Plan,
    best_teachers,
    choose_teachers,
    learning_task,
    require_teachers,
    shared_media,
    teachers_in_medium,
)
from qkt_p2p.asking.stragglers import learning_seconds_kept
from qkt_p2p.asking.transfers import TransferContext
from qkt_p2p.errors import ConfigError, DeadlineError, UpdateRefusedError
from qkt_p2p.limits import PROBE_ENOUGH_SECONDS, PROBE_SHARE
from qkt_p2p.masking.masks import probes_for
from qkt_p2p.outcome import TeacherOutcome
from qkt_p2p.seeds import derived_seed
from qkt_p2p.types import ENCODINGS, LIGHT_RANKS, ProbeRequest, Progress, TeachRequest

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterator,
        Awaitable,
        Callable,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )

    from qkt_p2p.asking.retry import Patience
    from qkt_p2p.outcome import QueryOutcome
    from qkt_p2p.seams import KeepOutcome, Learner, ReportProgress, StudentStore, TeacherLink
    from qkt_p2p.types import ClassName, PeerId, StudentModel

log = structlog.get_logger(__name__)


def _keep_nowhere(outcome: QueryOutcome) -> None:
    """Keep nothing: a query of a process that nobody restarts."""
    del outcome


class Student:
    """Runs queries for one node; `samples_per_class` and `probes` are what it asks of each teacher.

    Where their number is not given, there are as many probes as the classes of the federation need.
    """

    def __init__(
        self,
        learner: Learner,
        store: StudentStore,
        *,
        samples_per_class: int,
        probes: int | None = None,
        patience: Patience = USUAL_PATIENCE,
    ) -> None:
        self._learner = learner
        self._store = store
        self._samples_per_class = samples_per_class
        self._probes = probes
        self._patience = patience

    async def learn(
        self,
        outcome: QueryOutcome,
        model: StudentModel,
        *,
        links: Sequence[tuple[str, TeacherLink]],
        progress: ReportProgress,
        keep: KeepOutcome = _keep_nowhere,
        others_know: Iterable[ClassName] = (),
    ) -> None:
        """Run `outcome.query` against named links and fill in the outcome.

        `others_know` are the classes that peers say they know, for the number of probes alone.
        Peers that could not be reached may stand in the outcome already, with the reason. `keep` is told of
        the outcome after every finished step; with what it kept, learning goes on after that step.
        Ends as accepted or refused by the gate. Raises UpdateRefusedError where a step before it refuses the
        update, and another QktError where the query fails, with the outcome telling how far it came.
        """
        peers = {link.peer: link for _, link in links}
        federation = {*outcome.query.classes, *model.local, *model.known, *model.trained, *others_know}
        probes = self._probes or probes_for(len(federation))
        if "probe" not in outcome.finished:
            outcome.teachers |= {link.peer: TeacherOutcome(link.peer, name) for name, link in links}
        steps: Mapping[str, Callable[[], Awaitable[None]]] = {
            "probe": lambda: self._ask(outcome, peers, probes=probes, progress=progress),
            "collect": lambda: self._collect(outcome, model, peers=peers, progress=progress),
            "phase1": lambda: self._learner.phase1(learning_task(outcome), progress),
            "phase2": lambda: self._learner.phase2(learning_task(outcome), progress),
            "validate": lambda: self._validate(outcome, progress),
        }
        try:
            async with asyncio.timeout(outcome.seconds_left):
                for step, take in steps.items():
                    if step not in outcome.finished:
                        async with _step(outcome, step, progress):
                            with _counted(outcome, peers.values()):
                                await take()
                        outcome.finished += (step,)
                        keep(outcome)
        except TimeoutError as error:
            raise DeadlineError(
                f"the deadline of {outcome.query.deadline_seconds:g} s passed in step "
                f"{list(outcome.seconds)[-1]}",
                fix="ask again with a longer --deadline",
            ) from error
        except UpdateRefusedError as error:
            outcome.outcome, outcome.reason = "refused", error.message
            raise
        # A model that was judged in time is adopted whole.
        await self._conclude(outcome)

    async def _ask(
        self,
        outcome: QueryOutcome,
        peers: Mapping[PeerId, TeacherLink],
        *,
        probes: int,
        progress: ReportProgress,
    ) -> None:
        """Probe every live peer with the same seeded synthetic inputs: evidence e[t, c]."""
        query, now = outcome.query, asyncio.get_running_loop().time()
        request = ProbeRequest(query.query_id, derived_seed(query.seed, "probe"), probes, ())
        most = min(PROBE_ENOUGH_SECONDS, PROBE_SHARE * outcome.seconds_left)
        enough_at = now + most if self._patience.cut_slow else math.inf
        await probe_all(outcome, peers, request, enough_at=enough_at, progress=progress)

    async def _plan(self, outcome: QueryOutcome, model: StudentModel, progress: ReportProgress) -> Plan:
        """Choose the medium and the teachers. Raises UnknownClassError where a class has none."""
        query = outcome.query
        masks = choose_teachers(outcome, model)
        media = query.media if len(query.media) == 1 else await self._learner.preferred_media()
        shared = shared_media(outcome, masks, media)
        outcome.medium, stem = await self._medium_and_stem(shared, progress)
        able = teachers_in_medium(outcome, masks)
        request = TeachRequest(
            query_id=query.query_id,
            medium=outcome.medium,
            seed=derived_seed(query.seed, "teach"),
            samples_per_class=self._samples_per_class,
            classes=(),
            input_shape=model.input_shape,
            stem=stem,
            rank=LIGHT_RANKS.get(outcome.medium, 0) if query.light else 0,
            encodings=ENCODINGS,
        )
        return Plan(request, best_teachers(outcome, able, model) if query.light else able, able)

    async def _medium_and_stem(self, media: Sequence[str], progress: ReportProgress) -> tuple[str, bytes]:
        """Return the first medium for which the student has a stem; raises ConfigError where none is left."""
        *better, last = media
        for medium in better:
            try:
                return medium, await self._learner.stem(medium, progress)
            except ConfigError as error:
                log.warning("medium_left_out", medium=medium, reason=error.message)
                progress(Progress("probe", 0, 0, f"not in the medium {medium}: {error.message}"))
        return last, await self._learner.stem(last, progress)

    async def _collect(
        self,
        outcome: QueryOutcome,
        model: StudentModel,
        *,
        peers: Mapping[PeerId, TeacherLink],
        progress: ReportProgress,
    ) -> None:
        """Stream the masked responses of all chosen teachers at once, and leave time to learn from them.

        Raises PeerError, or BudgetSpentError, where a query class has fewer teachers left than the quorum.
        """
        end_at = asyncio.get_running_loop().time() + outcome.seconds_left
        kept = learning_seconds_kept(outcome.query.deadline_seconds, self._store.learning_seconds())
        collection = Collection(self._store, progress)
        await collection.recall(outcome)
        collecting = Collecting(
            outcome,
            await self._plan(outcome, model, progress),
            peers,
            TransferContext(collection, self._store, end_at, self._patience),
            check=lambda peer, classes: self._learner.check_response(outcome.query, peer, classes),
            enough_at=end_at - kept if self._patience.cut_slow else end_at,
        )
        await collecting.run()
        require_teachers(outcome)

    async def _validate(self, outcome: QueryOutcome, progress: ReportProgress) -> None:
        """Let the gate judge the candidate."""
        validation = await self._learner.validate(learning_task(outcome), progress)
        outcome.accuracy = validation.accuracy
        outcome.reason = validation.reason
        outcome.verdict = "accepted" if validation.accepted else "refused"

    async def _conclude(self, outcome: QueryOutcome) -> None:
        """Adopt the candidate if the gate accepts it; the old model stays otherwise, and after a trial."""
        if outcome.verdict == "accepted" and not outcome.query.trial:
            outcome.model_version = await self._learner.adopt(learning_task(outcome))
        outcome.outcome = outcome.verdict or "failed"


@contextmanager
def _counted(outcome: QueryOutcome, links: Iterable[TeacherLink]) -> Iterator[None]:
    """Add what this query sends and receives over links that live longer than it."""
    before = [(link, link.bytes_sent, link.bytes_received) for link in links]
    try:
        yield
    finally:
        outcome.bytes_sent += sum(link.bytes_sent - sent for link, sent, _ in before)
        outcome.bytes_received += sum(link.bytes_received - received for link, _, received in before)


@asynccontextmanager
async def _step(outcome: QueryOutcome, step: str, progress: ReportProgress) -> AsyncIterator[None]:
    """Time one step, tell that it began, and leave one log line."""
    started = time.monotonic()
    outcome.seconds[step] = 0.0
    progress(Progress(step, 0, 0, "started"))
    try:
        yield
    finally:
        outcome.seconds[step] = round(time.monotonic() - started, 3)
        log.info("query_step", query=outcome.query.query_id, step=step, seconds=outcome.seconds[step])
