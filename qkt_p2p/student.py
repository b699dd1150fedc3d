"""The asking side of one query, in the paper's order: ask, collect, phase 1, phase 2, validate.

Network and journal are awaited here; learning happens behind the `Learner` seam: in the worker
process of a daemon, or in the same process in a benchmark.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from contextlib import asynccontextmanager
from difflib import get_close_matches
from typing import TYPE_CHECKING, Protocol

import structlog

from qkt_p2p.errors import DeadlineError, NotTrustedError, PeerError, ProtocolError, UnknownClassError
from qkt_p2p.masking.masks import mask_of, teacher_weights
from qkt_p2p.outcome import QueryOutcome, TeacherOutcome
from qkt_p2p.seeds import derived_seed
from qkt_p2p.types import MEDIA, Chunk, LearningTask, ProbeRequest, Progress, TeachOffer, TeachRequest, short

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Sequence

    from qkt_p2p.types import (
        ClassName,
        PeerId,
        ProbeReport,
        Query,
        QueryId,
        StudentModel,
        TeachPart,
        Validation,
    )

log = structlog.get_logger(__name__)


class TeacherLink(Protocol):
    """A connection to a peer that may teach; counts the bytes of its probes and responses."""

    peer: PeerId
    bytes_sent: int
    bytes_received: int

    async def probe(self, request: ProbeRequest) -> ProbeReport:
        """Ask for evidence of what the peer's model knows."""
        ...

    def teach(self, request: TeachRequest) -> AsyncIterator[TeachPart]:
        """Yield the parts of a masked synthetic response."""
        ...


class ResponseStore(Protocol):
    """Where responses wait for the learner: the journal."""

    def save_offer(self, query_id: QueryId, source: str, offer: TeachOffer) -> None:
        """Keep what a teacher is going to send."""
        ...

    def save_chunk(self, query_id: QueryId, source: str, *, index: int, data: bytes, digest: bytes) -> None:
        """Keep one chunk."""
        ...

    def held_digests(self, query_id: QueryId) -> set[bytes]:
        """Return the digests of the chunks that need not be sent again."""
        ...


class Learner(Protocol):
    """The parts of a query that compute; each step continues from what the last one left on disk."""

    async def check_response(self, query: Query, source: PeerId) -> None:
        """Decode everything that `source` sent; raises ProtocolError where it is not usable."""
        ...

    async def phase1(self, task: LearningTask, progress: ReportProgress) -> None:
        """Distil the relevant teachers' responses into the grown student."""
        ...

    async def phase2(self, task: LearningTask, progress: ReportProgress) -> None:
        """Refine the classification head against forgetting."""
        ...

    async def validate(self, task: LearningTask, progress: ReportProgress) -> Validation:
        """Measure the candidate against the old model."""
        ...

    async def adopt(self, task: LearningTask) -> int:
        """Make the candidate the node's model and return its version."""
        ...


if TYPE_CHECKING:
    ReportProgress = Callable[[Progress], None]


class Student:
    """Runs queries for one node; `samples_per_class` and `probes` are what it asks of each teacher."""

    def __init__(
        self, learner: Learner, store: ResponseStore, *, samples_per_class: int, probes: int = 1024
    ) -> None:
        self._learner = learner
        self._store = store
        self._samples_per_class = samples_per_class
        self._probes = probes

    async def learn(
        self,
        outcome: QueryOutcome,
        model: StudentModel,
        *,
        links: Sequence[tuple[str, TeacherLink]],
        progress: ReportProgress,
    ) -> None:
        """Run `outcome.query` against named links and fill in the outcome.

        Ends as accepted or refused; raises a QktError where the query fails, with the outcome
        telling how far it came.
        """
        query = outcome.query
        try:
            async with asyncio.timeout(query.deadline_seconds):
                await self._ask(outcome, links, progress)
                requests = choose_teachers(outcome, model)
                await self._collect(outcome, model, links=links, requests=requests, progress=progress)
                task = learning_task(outcome)
                async with _step(outcome, "phase1", progress):
                    await self._learner.phase1(task, progress)
                async with _step(outcome, "phase2", progress):
                    await self._learner.phase2(task, progress)
                async with _step(outcome, "validate", progress):
                    await self._validate(outcome, task, progress)
        except TimeoutError as error:
            raise DeadlineError(
                f"the deadline of {query.deadline_seconds:g} s passed after {_last_step(outcome)}",
                fix="ask again with a longer --deadline",
            ) from error

    async def _ask(
        self, outcome: QueryOutcome, links: Sequence[tuple[str, TeacherLink]], progress: ReportProgress
    ) -> None:
        """Probe every live peer with the same seeded synthetic inputs."""
        query = outcome.query
        request = ProbeRequest(query.query_id, derived_seed(query.seed, "probe"), self._probes, ())
        outcome.teachers = {link.peer: TeacherOutcome(link.peer, name) for name, link in links}
        done = 0

        async def probe(link: TeacherLink) -> None:
            nonlocal done
            teacher = outcome.teachers[link.peer]
            try:
                report = await link.probe(request)
            except (PeerError, NotTrustedError) as error:
                teacher.reason = error.message
                log.warning("probe_failed", peer=short(link.peer), error=error.message)
            else:
                teacher.evidence = {item.class_name: item.evidence for item in report.evidence}
                teacher.classes = tuple(item.class_name for item in report.evidence if item.teachable)
            done += 1
            progress(Progress("probe", done, len(links), f"{teacher.name} answered"))

        async with _step(outcome, "probe", progress):
            await _together(probe(link) for _, link in links)

    async def _collect(
        self,
        outcome: QueryOutcome,
        model: StudentModel,
        *,
        links: Sequence[tuple[str, TeacherLink]],
        requests: dict[PeerId, tuple[ClassName, ...]],
        progress: ReportProgress,
    ) -> None:
        """Stream the masked responses of all chosen teachers at once; one that fails is left out."""
        held = tuple(sorted(self._store.held_digests(outcome.query.query_id)))
        received = _Received(progress)

        async def collect(link: TeacherLink) -> None:
            teacher = outcome.teachers[link.peer]
            request = self._teach_request(outcome, model, requests[link.peer], held)
            try:
                await self._receive(link, request, teacher, received)
                await self._learner.check_response(outcome.query, link.peer)
            except (PeerError, NotTrustedError) as error:
                teacher.reason = error.message
                log.warning("teacher_left_out", peer=short(link.peer), error=error.message)
            else:
                teacher.used = True

        async with _step(outcome, "collect", progress):
            await _together(collect(link) for _, link in links if link.peer in requests)
        outcome.bytes_sent = sum(link.bytes_sent for _, link in links)
        outcome.bytes_received = sum(link.bytes_received for _, link in links)
        require_teachers(outcome)

    def _teach_request(
        self,
        outcome: QueryOutcome,
        model: StudentModel,
        classes: tuple[ClassName, ...],
        held: tuple[bytes, ...],
    ) -> TeachRequest:
        query = outcome.query
        outcome.medium = MEDIA[0] if query.medium == "auto" else query.medium
        return TeachRequest(
            query_id=query.query_id,
            medium=outcome.medium,
            seed=derived_seed(query.seed, "teach"),
            samples_per_class=self._samples_per_class,
            classes=classes,
            input_shape=model.input_shape,
            held=held,
        )

    async def _receive(
        self, link: TeacherLink, request: TeachRequest, teacher: TeacherOutcome, received: _Received
    ) -> None:
        """Check every part of one response against its offer and keep it."""
        offer: TeachOffer | None = None
        missing: set[int] = set()
        async for part in link.teach(request):
            if offer is None:
                offer = _checked_offer(part, request)
                missing = {i for i, info in enumerate(offer.chunks) if info.digest not in request.held}
                teacher.classes = offer.classes
                received.expect(sum(info.size for info in offer.chunks))
                self._store.save_offer(request.query_id, link.peer, offer)
            elif isinstance(part, Chunk):
                digest = _checked_digest(part, offer, missing)
                self._store.save_chunk(
                    request.query_id, link.peer, index=part.index, data=part.data, digest=digest
                )
                missing.remove(part.index)
                teacher.samples += offer.chunks[part.index].samples
                teacher.bytes += len(part.data)
                received.add(len(part.data), teacher.name)
        if offer is None or missing:
            raise ProtocolError(f"the response ended with {len(missing)} chunks missing")

    async def _validate(self, outcome: QueryOutcome, task: LearningTask, progress: ReportProgress) -> None:
        """Let the gate judge the candidate; the old model stays where it says no."""
        validation = await self._learner.validate(task, progress)
        outcome.accuracy = validation.accuracy
        outcome.reason = validation.reason
        outcome.outcome = "accepted" if validation.accepted else "refused"
        if validation.accepted and not task.query.trial:
            outcome.model_version = await self._learner.adopt(task)


def choose_teachers(outcome: QueryOutcome, model: StudentModel) -> dict[PeerId, tuple[ClassName, ...]]:
    """Return what to ask of whom: each peer's mask m[t], cut to Q and the classes that the student knows.

    Raises UnknownClassError, naming the classes that peers do know, where nobody knows one of Q.
    """
    query = outcome.query
    wanted = {*query.classes, *model.local, *model.known}
    requests: dict[PeerId, tuple[ClassName, ...]] = {}
    for teacher in outcome.teachers.values():
        known = mask_of(teacher.evidence)
        mask = tuple(name for name in teacher.classes if name in known and name in wanted)
        teacher.classes = mask
        if mask:
            requests[teacher.peer] = mask
        elif not teacher.reason:
            teacher.reason = "teaches none of the classes wanted"
    taught = {name for mask in requests.values() for name in mask}
    missing = [name for name in query.classes if name not in taught]
    if missing:
        raise _unknown(missing, outcome)
    return requests


def require_teachers(outcome: QueryOutcome) -> None:
    """Raise PeerError where a query class has lost all its teachers."""
    taught = {name for teacher in outcome.teachers.values() if teacher.used for name in teacher.classes}
    lost = [name for name in outcome.query.classes if name not in taught]
    if lost:
        reasons = "; ".join(f"{t.name}: {t.reason}" for t in outcome.teachers.values() if t.reason)
        raise PeerError(f"no teacher is left for {', '.join(lost)} ({reasons})", fix="qkt-node peers")


def learning_task(outcome: QueryOutcome) -> LearningTask:
    """Return what was collected, and set each teacher's weight: its mean share over the query classes."""
    used = {teacher.peer: teacher for teacher in outcome.teachers.values() if teacher.used}
    evidence = {
        peer: {name: teacher.evidence[name] for name in teacher.classes} for peer, teacher in used.items()
    }
    weights = teacher_weights(evidence)
    classes = outcome.query.classes
    for peer, teacher in used.items():
        teacher.weight = sum(weights[peer].get(name, 0.0) for name in classes) / len(classes)
    relevant = tuple(peer for peer in used if any(name in evidence[peer] for name in classes))
    return LearningTask(outcome.query, evidence, relevant)


def _unknown(missing: Sequence[ClassName], outcome: QueryOutcome) -> UnknownClassError:
    known = sorted({name for t in outcome.teachers.values() for name in mask_of(t.evidence)})
    if not outcome.teachers:
        return UnknownClassError("there is no live peer to ask", fix="qkt-node peers")
    names = ", ".join(repr(name) for name in missing)
    return UnknownClassError(
        f"no live peer can teach {names}; live peers know: {', '.join(known) or 'nothing'}",
        fix=_suggestion(missing, known),
    )


def _suggestion(missing: Sequence[ClassName], known: Collection[ClassName]) -> str:
    spelled = {name.casefold(): name for name in known}
    for name in missing:
        close = get_close_matches(name.casefold(), spelled, n=1)
        if close:
            return f"did you mean {spelled[close[0]]!r}?"
    return "qkt-node peers"


def _checked_offer(part: TeachPart, request: TeachRequest) -> TeachOffer:
    if not isinstance(part, TeachOffer):
        raise ProtocolError("the response does not begin with an offer")
    if part.medium != request.medium:
        raise ProtocolError(f"medium {part.medium!r} was offered, {request.medium!r} was asked for")
    if not set(part.classes) <= set(request.classes):
        raise ProtocolError("classes were offered that nobody asked for")
    return part


def _checked_digest(part: Chunk, offer: TeachOffer, missing: set[int]) -> bytes:
    if part.index not in missing:
        raise ProtocolError(f"chunk {part.index} was not offered, or came twice")
    info = offer.chunks[part.index]
    if len(part.data) != info.size or hashlib.sha256(part.data).digest() != info.digest:
        raise ProtocolError(f"chunk {part.index} is not what was offered")
    return info.digest


class _Received:
    """Bytes received over all teachers, for one progress bar."""

    def __init__(self, progress: ReportProgress) -> None:
        self._progress = progress
        self._done = 0
        self._total = 0

    def expect(self, size: int) -> None:
        self._total += size

    def add(self, size: int, name: str) -> None:
        self._done += size
        self._progress(Progress("collect", self._done, self._total, f"from {name}"))


async def _together(works: Iterable[Coroutine[None, None, None]]) -> None:
    """Await all; the first failure cancels the others and is raised as itself."""
    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from failures


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


def _last_step(outcome: QueryOutcome) -> str:
    return list(outcome.seconds)[-1] if outcome.seconds else "no step"
