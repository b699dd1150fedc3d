"""One query in the arena, from its beginning to its end, and every rule that this end breaks."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from copy import deepcopy
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from qkt_node.cluster.chaos.schedule import Fault, Schedule
from qkt_p2p.digests import chunk_digest
from qkt_p2p.errors import QktError
from qkt_p2p.outcome import STEPS, QueryOutcome
from qkt_p2p.seeds import derived_seed
from qkt_p2p.student import Student
from qkt_p2p.transport.client import PeerClient
from qkt_p2p.transport.dialer import MemberLine
from qkt_p2p.types import Chunk, ClassName, Progress, Query, TeachPart, TeachRequest
from tests.faults.bank import KNOWLEDGE, ReadingLearner, chunks_of
from tests.faults.federation import Host
from tests.student.classroom import MODEL, SAMPLES

if TYPE_CHECKING:
    from tests.faults.arena import Arena

LATE_SECONDS = 2.0
"""A query may end so long after its deadline."""

_LOOK_SECONDS = 0.1


class CountingLink(PeerClient):
    """Counts every chunk that arrives, and tells how many did."""

    arrived: Counter[bytes]
    tell: Callable[[int], None]
    chunks = 0

    async def teach(self, request: TeachRequest) -> AsyncGenerator[TeachPart]:
        async with aclosing(super().teach(request)) as parts:
            async for part in parts:
                if isinstance(part, Chunk):
                    self.arrived[chunk_digest(part.data)] += 1
                    self.chunks += 1
                    self.tell(self.chunks)
                yield part


@dataclass(frozen=True)
class End:
    """How one query ended, and every rule that it broke."""

    schedule: Schedule
    outcome: str
    reason: str
    seconds: float
    stalled: float
    teachers: dict[str, str]
    learned: dict[str, str]
    parts: int
    chunks: int
    repeated: int
    bytes: int
    problems: tuple[str, ...]


class Run:
    """One query, from its beginning to its end, also where its asker is killed on the way."""

    def __init__(
        self,
        arena: Arena,
        query: Query,
        faults: Sequence[Fault],
        *,
        at_chunk: Mapping[tuple[str, int], Fault],
    ) -> None:
        self.arrived: Counter[bytes] = Counter()
        self.bytes = 0
        self._arena = arena
        self._query = query
        self._waiting = list(faults)
        self._at_chunk = dict(at_chunk)
        self._learner = ReadingLearner()
        self._kept = QueryOutcome(query)
        self._learning: asyncio.Task[None] | None = None
        self._killed = False
        self._stalled = 0.0
        self._broken: Exception | None = None

    def kill(self) -> None:
        """Do what kill -9 does to the asker: nothing more is said or written, and it starts again."""
        if self._learning is not None:
            self._killed = True
            self._learning.cancel()

    async def to_its_end(self, schedule: Schedule) -> End:
        """Return how the query ended; raises what kept a fault from happening."""
        began, watching = time.monotonic(), asyncio.create_task(self._watch())
        self._befall(Progress("discover", 1, 1, "started"))
        while True:
            outcome = deepcopy(self._kept)
            error = await self._attempt(outcome)
            if not self._killed:
                break
            self._killed = False
            self._arena.reopen()
        watching.cancel()
        if self._broken is not None:
            raise self._broken
        return self._end(schedule, outcome, error, seconds=time.monotonic() - began)

    async def _attempt(self, outcome: QueryOutcome) -> BaseException | None:
        arena = self._arena
        self._learner = ReadingLearner(journal=arena.journal, learned=self._learner.learned)
        student = Student(self._learner, arena.journal, samples_per_class=SAMPLES, probes=8)
        links = [(name, self._link(host)) for name, host in arena.hosts.items()]
        work = student.learn(outcome, MODEL, links=links, progress=self._befall, keep=self._keep)
        self._learning = asyncio.create_task(work)
        await asyncio.wait({self._learning})
        for _, link in links:
            self.bytes += link.bytes_received
            await link.close()
        return asyncio.CancelledError() if self._learning.cancelled() else self._learning.exception()

    async def _watch(self) -> None:
        """Add up how long this process, which is all of the cluster at once, did not get to run."""
        time = asyncio.get_running_loop().time
        while True:
            before = time()
            await asyncio.sleep(_LOOK_SECONDS)
            late = time() - before - _LOOK_SECONDS
            self._stalled += late if late > _LOOK_SECONDS else 0.0

    def _keep(self, outcome: QueryOutcome) -> None:
        """Note what a restarted daemon finds in its journal."""
        if not self._killed:
            self._kept = deepcopy(outcome)

    def _link(self, host: Host) -> CountingLink:
        peer = self._arena.members.identities[host.name].peer_id
        link = CountingLink(
            peer, MemberLine(peer, host.proxy.address, self._arena.standing), self._arena.deadlines[host.name]
        )
        link.arrived = self.arrived
        link.tell = lambda count: self._begin(self._at_chunk.pop((host.name, count), None))
        return link

    def _befall(self, progress: Progress) -> None:
        """Begin the faults whose time has come: that of their step, or of a step that comes after it."""
        if self._killed:
            # What is saved as it dies is no progress; the next fault befalls whoever starts again.
            return
        at = STEPS.index(progress.step)
        share = progress.done / progress.total if progress.total else 0.0
        due = [each for each in self._waiting if (STEPS.index(each.step), each.share) <= (at, share)]
        for fault in due:
            self._waiting.remove(fault)
            self._begin(fault)

    def _begin(self, fault: Fault | None) -> None:
        try:
            if fault is not None:
                self._arena.begin(fault, self)
        except Exception as error:  # noqa: BLE001 - a fault that cannot begin is no end of the query
            self._broken = self._broken or error

    def _end(
        self, schedule: Schedule, outcome: QueryOutcome, error: BaseException | None, *, seconds: float
    ) -> End:
        names = {self._arena.members.identities[name].peer_id: name for name in KNOWLEDGE}
        teachers = {
            names[each.peer]: "used" if each.used else each.reason for each in outcome.teachers.values()
        }
        return End(
            schedule=schedule,
            outcome="failed" if error is not None else outcome.outcome,
            reason=error.message if isinstance(error, QktError) else repr(error or ""),
            seconds=seconds,
            stalled=self._stalled,
            teachers=teachers,
            learned={names[peer]: digest for peer, digest in self._learner.learned.items()},
            parts=sum(each.used and bool(each.missing) for each in outcome.teachers.values()),
            chunks=self.arrived.total(),
            repeated=len(self._repeated(schedule)),
            bytes=self.bytes,
            problems=(*self._problems(outcome, error, seconds), *self._repeated(schedule)),
        )

    def _problems(self, outcome: QueryOutcome, error: BaseException | None, seconds: float) -> Iterator[str]:
        """Yield every rule that this end breaks."""
        if error is not None and not isinstance(error, QktError):
            yield f"it ended with {error!r}"
        elif error is None and outcome.outcome == "failed":
            yield "it ended without saying how"
        elif error is not None and not error.message:
            yield "it failed without a reason"
        late = seconds - self._stalled - self._query.deadline_seconds
        if late > LATE_SECONDS:
            yield f"it ended {late:.1f} s after its deadline"
        if outcome.outcome != "failed":
            yield from self._wrong_lessons(outcome)

    def _repeated(self, schedule: Schedule) -> list[str]:
        """Return what was fetched more than once, but for what a teacher sent twice by itself."""
        liars = {each.node for each in schedule.faults if each.kind == "duplicate-chunk"}
        seed = derived_seed(self._query.seed, "teach")
        return [
            f"a chunk of {name} by {teacher} arrived {count} times"
            for teacher, classes in KNOWLEDGE.items()
            for name in classes
            for chunk in chunks_of(teacher, name, seed, self._arena.pieces)
            if (count := self.arrived[chunk_digest(chunk)]) > 1 and teacher not in liars
        ]

    def _wrong_lessons(self, outcome: QueryOutcome) -> Iterator[str]:
        """Yield where an accepted model was made of anything but what honest teachers offered."""
        names = {self._arena.members.identities[name].peer_id: name for name in KNOWLEDGE}
        taught: set[ClassName] = set()
        for teacher in outcome.teachers.values():
            if not teacher.used:
                continue
            taught.update(teacher.classes)
            seed, name = derived_seed(self._query.seed, "teach"), names[teacher.peer]
            whole = b"".join(
                chunk for each in teacher.classes for chunk in chunks_of(name, each, seed, self._arena.pieces)
            )
            if self._learner.learned.get(teacher.peer) != sha256(whole).hexdigest():
                yield f"what {name} taught is not what it offered"
            if teacher.bytes > len(whole):
                yield f"{teacher.bytes} bytes are counted of {len(whole)} that {name} offered"
        if lost := set(self._query.classes) - taught:
            yield f"it ended well, though nobody taught {', '.join(sorted(lost))}"
