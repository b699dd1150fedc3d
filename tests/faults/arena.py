"""A student and its teachers in one process, with all of the network between them: real gRPC over mutual TLS,
each teacher behind a way that faults befall, a real journal on disk; only the learning is a stand-in.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path

from qkt_node.cluster.chaos.dribble import Dribble
from qkt_node.cluster.chaos.lies import LIES, Lie, LyingHandler
from qkt_node.cluster.chaos.proxy import NETWORK, Proxy, impose
from qkt_node.cluster.chaos.schedule import Fault, Schedule
from qkt_p2p.errors import PeerRefusedError, ProtocolError, QktError
from qkt_p2p.identity.authority import Authority, create_authority, sign_request
from qkt_p2p.identity.standing import Standing
from qkt_p2p.identity.trust import Identity, install_bundle, load_identity
from qkt_p2p.outcome import STEPS, QueryOutcome
from qkt_p2p.seams import ReportProgress
from qkt_p2p.seeds import derived_seed
from qkt_p2p.store.journal import Journal
from qkt_p2p.student import Student
from qkt_p2p.transport.client import Deadlines, PeerClient
from qkt_p2p.transport.dialer import MemberLine
from qkt_p2p.transport.server import PeerServer
from qkt_p2p.types import (
    Chunk,
    ChunkInfo,
    ClassName,
    LearningTask,
    PeerId,
    Progress,
    Query,
    QueryId,
    TeachEnd,
    TeachOffer,
    TeachPart,
    TeachRequest,
    Validation,
)
from tests.student.classroom import CAT, DOG, MODEL, OWL, SAMPLES, FakeLearner, FakeTeacher
from tests.transport.members import join

ASKER = "asker"
KNOWLEDGE = {"first": (CAT, DOG), "second": (DOG, OWL), "third": (OWL, CAT)}
"""Each class has two teachers, so that one of them may fail."""

ASKED = (DOG, OWL)
CHUNKS_PER_CLASS, CHUNK_BYTES = 5, 8 * 1024
PATIENT = Deadlines(call=2.0, heartbeat=2.0, probe=2.0, stall=1.0)
HASTY = Deadlines(call=0.3, heartbeat=0.3, probe=0.3, stall=0.3)
"""For teachers that will not answer anyway."""

QUERY_SECONDS = 5.0
LATE_SECONDS = 2.0
"""A query may end so long after its deadline."""


def chunks_of(teacher: str, name: ClassName, seed: int) -> list[bytes]:
    """Return what a teacher sends of a class, whenever it is asked for it with that seed."""
    generator = random.Random(f"{teacher} {name} {seed}")
    return [generator.randbytes(CHUNK_BYTES) for _ in range(CHUNKS_PER_CLASS)]


@dataclass
class BankTeacher(FakeTeacher):
    """Teaches what its bank holds, a chunk every `pace` seconds; `full` is what its disk is."""

    name: str = ""
    pace: float = 0.0
    full: bool = False

    async def teach(self, caller: PeerId, request: TeachRequest) -> AsyncGenerator[TeachPart]:
        self.requests.append(request)
        if self.full:
            raise PeerRefusedError("this node cannot answer now: its owner finds the reason in its log")
        offer, data = bank(self.name, request)
        yield offer
        missing = [at for at, info in enumerate(offer.chunks) if info.digest not in request.held]
        for at in missing:
            await asyncio.sleep(self.pace)
            yield Chunk(at, data[at])
        yield TeachEnd(len(missing))


def bank(teacher: str, request: TeachRequest) -> tuple[TeachOffer, list[bytes]]:
    """Return the whole response of a teacher to a request."""
    data = [each for name in request.classes for each in chunks_of(teacher, name, request.seed)]
    samples = request.samples_per_class // CHUNKS_PER_CLASS
    infos = tuple(ChunkInfo(sha256(each).digest(), len(each), samples) for each in data)
    return TeachOffer(request.medium, 1, request.classes, infos), data


@dataclass
class ReadingLearner(FakeLearner):
    """Reads all that was collected, as a learner does, and notes its digest by teacher."""

    journal: Journal | None = None
    learned: dict[PeerId, str] = field(default_factory=dict)

    async def check_response(self, query: Query, source: PeerId) -> None:
        self._read(query, source)
        await super().check_response(query, source)

    async def phase1(self, task: LearningTask, progress: ReportProgress) -> None:
        await asyncio.sleep(0)
        self.learned = {source: self._read(task.query, source) for source in task.evidence}
        await super().phase1(task, progress)

    async def phase2(self, task: LearningTask, progress: ReportProgress) -> None:
        await asyncio.sleep(0)
        await super().phase2(task, progress)

    async def validate(self, task: LearningTask, progress: ReportProgress) -> Validation:
        await asyncio.sleep(0)
        return await super().validate(task, progress)

    def _read(self, query: Query, source: PeerId) -> str:
        """Return the digest of a response; raises ProtocolError where a chunk is missing or another."""
        assert self.journal is not None
        offer = self.journal.load_offer(query.query_id, source)
        assert offer is not None
        chunks = list(self.journal.load_chunks(query.query_id, source))
        if [sha256(each).digest() for each in chunks] != [info.digest for info in offer.chunks]:
            raise ProtocolError("the response is not what was offered")
        return sha256(b"".join(chunks)).hexdigest()


class CountingLink(PeerClient):
    """Counts every chunk that arrives."""

    arrived: Counter[bytes]

    async def teach(self, request: TeachRequest) -> AsyncGenerator[TeachPart]:
        async with aclosing(super().teach(request)) as parts:
            async for part in parts:
                if isinstance(part, Chunk):
                    self.arrived[sha256(part.data).digest()] += 1
                yield part


@dataclass
class Host:
    """One teacher: its answers, its server, and the way to it."""

    name: str
    teacher: BankTeacher
    standing: Standing
    proxy: Proxy
    handler: LyingHandler
    server: PeerServer | None = None

    async def start(self) -> None:
        """Serve on another port than before, which the way leads to."""
        self.server = PeerServer(self.handler, self.standing)
        self.proxy.target = f"127.0.0.1:{await self.server.start('127.0.0.1:0')}"
        self.proxy.conditions.gone = False

    async def stop(self) -> None:
        server, self.server = self.server, None
        if server is not None:
            await server.stop(0)


@dataclass(frozen=True)
class Members:
    """A federation that many arenas share: founding one takes longer than a query in it."""

    authority: Authority
    folder: Path
    identities: dict[str, Identity]

    @classmethod
    def found(cls, folder: Path) -> Members:
        # Older than any clock of a schedule is wrong.
        authority = create_authority("arena", now=datetime.now(UTC) - timedelta(days=1))
        names = (ASKER, *KNOWLEDGE)
        return cls(authority, folder, {name: join(authority, folder / name) for name in names})

    def certified(self, name: str, *, begin: datetime, seconds: float) -> Identity:
        """Return the same member with a certificate of another validity; nobody else is shown it."""
        # Certificates know whole seconds.
        begin = begin.replace(microsecond=0)
        home = self.folder / f"{name}-{begin.timestamp():.0f}-{seconds:.0f}"
        if not home.exists():
            home.mkdir(mode=0o700)
            for file in (self.identities[name].files.key, self.identities[name].files.request):
                (home / file.name).write_bytes(file.read_bytes())
                (home / file.name).chmod(0o600)
        request = (home / "request.pem").read_bytes()
        signed = sign_request(self.authority, request, now=begin, lifetime=timedelta(seconds=seconds))
        install_bundle(home, signed.bundle, now=begin)
        return load_identity(home, now=begin)


async def _all_stopped(crowds: Sequence[Dribble]) -> None:
    for crowd in crowds:
        await crowd.stop()


@dataclass(frozen=True)
class End:
    """How one query ended, and every rule that it broke."""

    schedule: Schedule
    outcome: str
    reason: str
    seconds: float
    teachers: dict[str, str]
    learned: dict[str, str]
    repeated: int
    bytes: int
    problems: tuple[str, ...]


class Arena:
    """Teachers that serve, and a journal; `run` asks them once while a schedule's faults befall them."""

    def __init__(
        self,
        members: Members,
        folder: Path,
        *,
        seed: int = 0,
        pace: float = 0.0,
        deadlines: Deadlines = PATIENT,
    ) -> None:
        self.members = members
        self.deadlines = deadlines
        self.pace = pace
        self.database = folder / f"state-{seed}.sqlite"
        self.journal = Journal(self.database)
        self.hosts: dict[str, Host] = {}
        self.standing = Standing(members.identities[ASKER])
        self._seed = seed
        self._work: set[asyncio.Task[None]] = set()
        self._undo: list[Callable[[], object]] = []

    async def __aenter__(self) -> Arena:
        for name, classes in KNOWLEDGE.items():
            teacher = BankTeacher(dict.fromkeys(classes, 0.9), name=name)
            proxy = Proxy("", random.Random(f"{self._seed} {name}"))
            handler = LyingHandler(teacher)
            host = Host(name, teacher, Standing(self.members.identities[name]), proxy, handler)
            await host.start()
            await proxy.start()
            self.hosts[name] = host
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._settle()
        for host in self.hosts.values():
            await host.proxy.stop()
            await host.stop()
        self.journal.close()

    async def run(self, schedule: Schedule, *, seconds: float = QUERY_SECONDS) -> End:
        """Run one query while the schedule's faults befall it; they are over when this returns."""
        query = Query(self.query_id(schedule.seed), ASKED, "features", 1, seconds)
        for host in self.hosts.values():
            host.teacher.pace = self.pace
        run = Run(self, query, list(schedule.faults))
        try:
            return await run.to_its_end(schedule)
        finally:
            await self._settle()
            self.journal.drop_responses(query.query_id)

    @staticmethod
    def query_id(seed: int) -> QueryId:
        """Return the identifier of the query of a schedule."""
        return QueryId(f"{seed:016x}"[-16:])

    async def _settle(self) -> None:
        """End every fault, and wait until all serve again."""
        while self._undo:
            self._undo.pop()()
        while self._work:
            await asyncio.gather(*self._work)
        for host in self.hosts.values():
            if host.server is None:
                await host.start()

    def begin(self, fault: Fault, run: Run) -> None:
        """Let a fault befall its node; at its end everything is as before."""
        undo = self._befall(fault, run)
        self._undo.append(undo)
        if fault.seconds:
            asyncio.get_running_loop().call_later(fault.seconds, self._end, undo)

    def _end(self, undo: Callable[[], object]) -> None:
        if undo in self._undo:
            self._undo.remove(undo)
            undo()

    def _befall(self, fault: Fault, run: Run) -> Callable[[], object]:
        hosts = list(self.hosts.values()) if fault.node == ASKER else [self.hosts[fault.node]]
        if fault.kind in (*NETWORK, "pause"):
            kind = "partition" if fault.kind == "pause" else fault.kind
            ends = [impose(host.proxy, kind, fault.parameters) for host in hosts]
            return lambda: [end() for end in ends]
        if fault.kind == "slow-loris":
            crowds = [Dribble(host.proxy.address, int(fault.parameters["connections"])) for host in hosts]
            for crowd in crowds:
                crowd.start()
            return lambda: self._soon(_all_stopped(crowds))
        if fault.node == ASKER:
            return self._befall_asker(fault, run)
        return self._befall_teacher(fault, hosts[0])

    def _befall_asker(self, fault: Fault, run: Run) -> Callable[[], object]:
        if fault.kind == "kill":
            run.kill()
            return lambda: None
        assert fault.kind == "full-disk", fault.kind
        # The least that the database may have is what it has.
        journal = self.journal
        journal._row("PRAGMA max_page_count = 1")
        return lambda: journal is self.journal and journal._row("PRAGMA max_page_count = 1073741823")

    def _befall_teacher(self, fault: Fault, host: Host) -> Callable[[], object]:
        if fault.kind in LIES:
            host.handler.lie = Lie(fault.kind, int(fault.parameters.get("chunk", 0)))
            return lambda: setattr(host.handler, "lie", None)
        match fault.kind:
            case "kill":
                host.proxy.conditions.gone = True
                host.proxy.reset()
                self._soon(host.stop())
                return lambda: self._soon(self._restart(host))
            case "full-disk":
                host.teacher.full = True
                return lambda: setattr(host.teacher, "full", False)
            case "clock-skew":
                begin = datetime.now(UTC) + timedelta(seconds=fault.parameters["seconds"])
                shown = self.members.certified(host.name, begin=begin, seconds=60)
            case _:
                shown = self.members.certified(
                    host.name, begin=datetime.now(UTC), seconds=fault.parameters["seconds"]
                )
        usual = host.standing.identity
        host.standing.show(shown)
        host.proxy.reset()
        return partial(host.standing.show, usual)

    async def _restart(self, host: Host) -> None:
        await host.stop()
        await host.start()

    def _soon(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    def reopen(self) -> None:
        """Do what a process does that starts again: read the journal from disk."""
        self.journal.close()
        self.journal = Journal(self.database)


class Run:
    """One query, from its beginning to its end, also where its asker is killed on the way."""

    def __init__(self, arena: Arena, query: Query, faults: Sequence[Fault]) -> None:
        self.arrived: Counter[bytes] = Counter()
        self.bytes = 0
        self._arena = arena
        self._query = query
        self._waiting = list(faults)
        self._learner = ReadingLearner()
        self._kept = QueryOutcome(query)
        self._learning: asyncio.Task[None] | None = None
        self._killed = False
        self._broken: Exception | None = None

    def kill(self) -> None:
        """Do what kill -9 does to the asker: nothing more is said or written, and it starts again."""
        if self._learning is not None:
            self._killed = True
            self._learning.cancel()

    async def to_its_end(self, schedule: Schedule) -> End:
        """Return how the query ended; raises what kept a fault from happening."""
        began = time.monotonic()
        self._befall(Progress("discover", 1, 1, "started"))
        while True:
            outcome = deepcopy(self._kept)
            error = await self._attempt(outcome)
            if not self._killed:
                break
            self._killed = False
            self._arena.reopen()
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

    def _keep(self, outcome: QueryOutcome) -> None:
        """Note what a restarted daemon finds in its journal."""
        if not self._killed:
            self._kept = deepcopy(outcome)

    def _link(self, host: Host) -> CountingLink:
        peer = self._arena.members.identities[host.name].peer_id
        link = CountingLink(
            peer, MemberLine(peer, host.proxy.address, self._arena.standing), self._arena.deadlines
        )
        link.arrived = self.arrived
        return link

    def _befall(self, progress: Progress) -> None:
        """Begin the faults whose time has come: that of their step, or of a step that comes after it."""
        at = STEPS.index(progress.step)
        share = progress.done / progress.total if progress.total else 0.0
        due = [each for each in self._waiting if (STEPS.index(each.step), each.share) <= (at, share)]
        for fault in due:
            self._waiting.remove(fault)
            try:
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
            teachers=teachers,
            learned={names[peer]: digest for peer, digest in self._learner.learned.items()},
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
        if seconds > self._query.deadline_seconds + LATE_SECONDS:
            yield f"it ended {seconds - self._query.deadline_seconds:.1f} s after its deadline"
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
            for chunk in chunks_of(teacher, name, seed)
            if (count := self.arrived[sha256(chunk).digest()]) > 1 and teacher not in liars
        ]

    def _wrong_lessons(self, outcome: QueryOutcome) -> Iterator[str]:
        """Yield where an accepted model was made of anything but what honest teachers offered."""
        names = {self._arena.members.identities[name].peer_id: name for name in KNOWLEDGE}
        taught: set[ClassName] = set()
        for teacher in outcome.teachers.values():
            if not teacher.used:
                continue
            taught.update(teacher.classes)
            whole = b"".join(
                chunk
                for name in teacher.classes
                for chunk in chunks_of(names[teacher.peer], name, derived_seed(self._query.seed, "teach"))
            )
            if self._learner.learned.get(teacher.peer) != sha256(whole).hexdigest():
                yield f"what {names[teacher.peer]} taught is not what it offered"
            if teacher.bytes > len(whole):
                yield f"{teacher.bytes} bytes are counted of {len(whole)} that {names[teacher.peer]} offered"
        if lost := set(self._query.classes) - taught:
            yield f"it ended well, though nobody taught {', '.join(sorted(lost))}"
