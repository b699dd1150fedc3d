"""A node's queries with stand-ins for everything that learns or speaks to others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Never, cast

from qkt_node.events import Ended, QueryEvent, QueryOptions, Started
from qkt_node.model_files import candidate_file
from qkt_node.profile import Profile
from qkt_node.queries import Queries
from qkt_node.query_end import Ends
from qkt_node.query_run import Means
from qkt_node.settings import NodeConfig
from qkt_p2p.discovery import Conduct, Gathered, Member
from qkt_p2p.errors import NotTrustedError, PeerUnavailableError
from qkt_p2p.outcome import QueryOutcome
from qkt_p2p.store.journal import Journal, QueryRecord
from qkt_p2p.types import ClassName, Progress, QueryId, StudentModel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from qkt_p2p.seams import TeacherLink
    from qkt_p2p.transport.client import PeerClient
    from qkt_p2p.types import PeerId

OPTIONS = QueryOptions(classes=("7",))


class StandInStudent:
    """Learns as `ending` says, once `go` is set."""

    def __init__(self, models: Path) -> None:
        self.go = asyncio.Event()
        self.begun = asyncio.Event()
        self.ending: Callable[[QueryOutcome], None] = lambda outcome: None
        self.running = self.most_running = 0
        self.finishes = True
        self.begun_with: list[tuple[QueryId, tuple[str, ...]]] = []
        self.others_know: Collection[ClassName] = ()
        self._models = models

    async def learn(
        self,
        outcome: QueryOutcome,
        model: StudentModel,
        *,
        links: list[tuple[str, TeacherLink]],
        progress: Callable[[Progress], None],
        keep: Callable[[QueryOutcome], None],
        others_know: Collection[ClassName],
    ) -> None:
        """Finish a step, leave a candidate behind, wait, and end."""
        self.begun_with.append((outcome.query.query_id, outcome.finished))
        self.others_know = others_know
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        try:
            if self.finishes:
                outcome.finished = ("probe", "collect")
                keep(outcome)
            progress(Progress("phase1", 0, 0, "started"))
            (self._models / candidate_file(outcome.query.query_id, "phase1")).write_bytes(b"a model")
            self.begun.set()
            await self.go.wait()
            outcome.outcome = "accepted"
            self.ending(outcome)
        finally:
            self.running -= 1


class StandInWorker:
    """Writes reports, unless `report` raises or waits."""

    def __init__(self) -> None:
        self.reporting = asyncio.Event()
        self.finish = asyncio.Event()
        self.finish.set()
        self.error: Exception | None = None

    async def warm(self) -> None:
        """Do nothing."""

    async def call(self, operation: object, argument: dict[str, Any], progress: object) -> str:
        """Return the path of a report."""
        self.reporting.set()
        await self.finish.wait()
        if self.error is not None:
            raise self.error
        return f"{argument['query_id']}.html"


class NoContacts:
    """A node that meets nobody, and may reach or miss somebody; remembers how teachers were judged."""

    def __init__(self) -> None:
        self.judged: dict[PeerId, Conduct] = {}
        self.reached: list[tuple[Member, PeerClient]] = []
        self.missed: list[tuple[Member, str]] = []
        self.failures: tuple[str, ...] = ()

    def judge(self, peer: PeerId, conduct: Conduct) -> None:
        """Remember."""
        self.judged[peer] = conduct

    def hear(self, peer: PeerId) -> None:
        """Do nothing."""

    async def meet(self, seconds: float, peers: Collection[PeerId] = ()) -> None:
        """Meet nobody."""

    @asynccontextmanager
    async def gathered(self, seconds: float) -> AsyncIterator[Gathered[PeerClient]]:
        """Reach whom it reaches."""
        yield Gathered(self.reached, self.missed, again=nobody, failures=self.failures)


async def nobody(peer: PeerId, seconds: float) -> Never:
    """Reach nobody again."""
    raise PeerUnavailableError(f"{peer} is not reached within {seconds:g} s")


class GoodStanding:
    """A member whose certificate peers take, unless there is a `problem`."""

    def __init__(self) -> None:
        self.problem: NotTrustedError | None = None

    def require_own(self) -> None:
        """Raise the problem."""
        if self.problem is not None:
            raise self.problem


def refused(outcome: QueryOutcome) -> None:
    """End a query as one whose update the gate refused."""
    outcome.outcome = "refused"
    outcome.reason = "it forgot 3"


class Office:
    """Queries with everything that they need."""

    def __init__(self, journal: Journal, models: Path) -> None:
        self.journal = journal
        self.models = models
        self.student = StandInStudent(models)
        self.worker = StandInWorker()
        self.contacts = NoContacts()
        self.standing = GoodStanding()
        self.ends = Ends(journal, models, pause=0.0)
        own = (ClassName("0"), ClassName("3"))
        self.profile = Profile("node", model=StudentModel(1, (1, 8, 8), own, own, scarce=own[1:]))
        self.queries = Queries(
            Means(
                cast("Any", self.student),
                cast("Any", self.worker),
                journal,
                cast("Any", self.contacts),
                profile=self.profile,
                models=models,
                standing=cast("Any", self.standing),
                ends=self.ends,
            ),
            NodeConfig(),
        )

    async def start(self, options: QueryOptions = OPTIONS) -> tuple[QueryId, AsyncIterator[QueryEvent]]:
        """Return the identifier of a new query and its further events."""
        events = self.queries.start(options)
        started = await anext(events)
        assert isinstance(started, Started)
        return started.query_id, events

    async def die(self) -> None:
        """End as a daemon that is killed: nothing is recorded or told any more."""
        tasks = [task for run in self.queries._runs.values() for task in (run.ended, run._learning)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def record(self, query_id: QueryId) -> QueryRecord:
        """Return what the journal holds of a query."""
        record = self.journal.query_record(query_id)
        assert record is not None
        return record

    def state(self, query_id: QueryId) -> str:
        """Return how the journal says that a query stands."""
        return self.record(query_id).state


async def end_of(events: AsyncIterator[QueryEvent]) -> Ended:
    """Return the last event."""
    *_, last = [event async for event in events]
    assert isinstance(last, Ended)
    return last
