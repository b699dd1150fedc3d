"""A student, its teachers and a learner, in one process: who does what is up to the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from qkt_p2p.asking.retry import Patience
from qkt_p2p.digests import chunk_digest
from qkt_p2p.errors import PeerRefusedError, ProtocolError
from qkt_p2p.outcome import QueryOutcome
from qkt_p2p.seams import ReportProgress
from qkt_p2p.student import Student
from qkt_p2p.transport.client import USUAL_DEADLINES, Deadlines, PeerClient
from qkt_p2p.transport.memory import MemoryNetwork
from qkt_p2p.types import (
    MEDIA,
    Chunk,
    ChunkInfo,
    ClassAccuracy,
    ClassEvidence,
    ClassName,
    Heartbeat,
    LearningTask,
    NodeDescription,
    PeerAddress,
    PeerId,
    ProbeReport,
    ProbeRequest,
    Progress,
    Query,
    QueryId,
    StudentModel,
    TeachEnd,
    TeachOffer,
    TeachPart,
    TeachRequest,
    TransferRecord,
    Validation,
)

CAT, DOG, OWL, FOX = (ClassName(name) for name in ("cat", "dog", "owl", "fox"))
MODEL = StudentModel(version=1, input_shape=(1, 8, 8), local=(CAT,), known=(CAT,))
SAMPLES = 10
ME = PeerId("m" * 52)
QUICK = Patience(attempts=3, pauses=(0.001, 0.002), away=0.0, busy=3, busy_pause=0.002)
"""For teachers that fail for good: who asks again does not wait long."""

Response = Callable[[TeachRequest], Sequence[TeachPart | BaseException]]
"""What a teacher sends: parts, or an error that it ends with."""


def query(
    *classes: ClassName, seed: int = 1, deadline: float = 30.0, trial: bool = False, light: bool = False
) -> Query:
    return Query(QueryId("0" * 16), classes, "auto", seed, deadline, trial=trial, light=light)


CHUNK_BYTES = 40


def chunk_of(name: ClassName, seed: int) -> bytes:
    return f"{name} {seed}".encode().ljust(CHUNK_BYTES)


def honest(request: TeachRequest) -> list[TeachPart | BaseException]:
    """Return the response of a teacher that does as asked: one chunk for each class, but for held ones."""
    data = [chunk_of(name, request.seed) for name in request.classes]
    infos = tuple(ChunkInfo(chunk_digest(each), len(each), request.samples_per_class) for each in data)
    missing = [at for at, info in enumerate(infos) if info.digest not in request.held]
    return [
        TeachOffer(request.medium, 1, request.classes, infos),
        *(Chunk(at, data[at]) for at in missing),
        TeachEnd(len(missing)),
    ]


@dataclass
class FakeTeacher:
    """A handler with the evidence and the response that a test gives it."""

    evidence: Mapping[ClassName, float]
    unteachable: Sequence[ClassName] = ()
    media: tuple[str, ...] = MEDIA
    response: Response = honest
    probe_failure: BaseException | None = None
    hangs_in: str = ""
    probes: list[ProbeRequest] = field(default_factory=list)
    requests: list[TeachRequest] = field(default_factory=list)
    began: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def hello(self, caller: PeerId, node: NodeDescription) -> NodeDescription:
        raise PeerRefusedError("this teacher only teaches")

    async def heartbeat(self, caller: PeerId, beat: Heartbeat) -> Heartbeat:
        raise PeerRefusedError("this teacher only teaches")

    async def exchange_peers(self, caller: PeerId, peers: tuple[PeerAddress, ...]) -> tuple[PeerAddress, ...]:
        raise PeerRefusedError("this teacher only teaches")

    async def exchange_revocations(self, caller: PeerId, lists: bytes) -> bytes:
        raise PeerRefusedError("this teacher only teaches")

    async def probe(self, caller: PeerId, request: ProbeRequest) -> ProbeReport:
        self.probes.append(request)
        await self._pass("probe")
        if self.probe_failure is not None:
            raise self.probe_failure
        evidence = tuple(
            ClassEvidence(name, value, name not in self.unteachable) for name, value in self.evidence.items()
        )
        return ProbeReport(1, (1, 8, 8), evidence, self.media)

    async def teach(self, caller: PeerId, request: TeachRequest) -> AsyncGenerator[TeachPart]:
        self.requests.append(request)
        try:
            for part in self.response(request):
                if isinstance(part, BaseException):
                    raise part
                yield part
                await self._pass("teach")
        finally:
            self.ended.set()

    async def _pass(self, step: str) -> None:
        if self.hangs_in == step:
            self.began.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.ended.set()


@dataclass
class Shelf:
    """Keeps what is received, as the journal does."""

    held: dict[bytes, bytes] = field(default_factory=dict)
    offers: dict[str, TeachOffer] = field(default_factory=dict)
    chunks: dict[str, dict[int, bytes]] = field(default_factory=dict)
    transfers: dict[PeerId, list[TransferRecord]] = field(default_factory=dict)
    learned: list[float] = field(default_factory=list)
    sources: dict[bytes, str] = field(default_factory=dict)

    def save_offer(self, query_id: QueryId, source: str, offer: TeachOffer) -> None:
        self.offers[source] = offer

    def load_offer(self, query_id: QueryId, source: str) -> TeachOffer | None:
        return self.offers.get(source)

    def save_chunks(self, query_id: QueryId, source: str, chunks: Sequence[tuple[bytes, Chunk]]) -> None:
        for digest, chunk in chunks:
            self.chunks.setdefault(source, {})[chunk.index] = chunk.data
            if digest not in self.held:
                self.held[digest], self.sources[digest] = chunk.data, source

    def held_digests(self, query_id: QueryId) -> set[bytes]:
        return set(self.held)

    def held_by_source(self, query_id: QueryId) -> Mapping[str, tuple[int, int]]:
        sizes: dict[str, list[int]] = {}
        for digest, data in self.held.items():
            sizes.setdefault(self.sources[digest], []).append(len(data))
        return {source: (len(each), sum(each)) for source, each in sizes.items()}

    def transfers_of(self, peer: PeerId) -> Sequence[TransferRecord]:
        return self.transfers.get(peer, [])

    def note_transfer(self, peer: PeerId, record: TransferRecord) -> None:
        self.transfers.setdefault(peer, []).append(record)

    def learning_seconds(self) -> Sequence[float]:
        return self.learned


ACCEPTED = Validation(
    True,
    "learned",
    (
        ClassAccuracy(CAT, 1.0, 0.75, "holdout", asked=False),
        ClassAccuracy(DOG, 0.0, 0.5, "estimate", asked=True),
    ),
)


@dataclass
class FakeLearner:
    """Notes the steps; `failures` by step, `unusable` responses by teacher, and one step it may hang in.

    Its stem names the medium, and is none for `moments`; for `stemless` media there is an error.
    """

    validation: Validation = ACCEPTED
    unusable: dict[PeerId, str] = field(default_factory=dict)
    failures: dict[str, BaseException] = field(default_factory=dict)
    stemless: dict[str, BaseException] = field(default_factory=dict)
    hangs_in: str = ""
    preferred: tuple[str, ...] = MEDIA
    steps: list[str] = field(default_factory=list)
    task: LearningTask | None = None
    began: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)

    async def preferred_media(self) -> tuple[str, ...]:
        return self.preferred

    async def stem(self, medium: str, progress: ReportProgress) -> bytes:
        await self._do("stem")
        if medium in self.stemless:
            raise self.stemless[medium]
        return b"" if medium == "moments" else f"stem for {medium}".encode()

    async def check_response(self, query: Query, source: PeerId, classes: tuple[ClassName, ...]) -> None:
        if source in self.unusable:
            raise ProtocolError(self.unusable[source])
        await self._do("check")

    async def phase1(self, task: LearningTask, progress: ReportProgress) -> None:
        self.task = task
        await self._do("phase1")

    async def phase2(self, task: LearningTask, progress: ReportProgress) -> None:
        await self._do("phase2")

    async def validate(self, task: LearningTask, progress: ReportProgress) -> Validation:
        await self._do("validate")
        return self.validation

    async def adopt(self, task: LearningTask) -> int:
        await self._do("adopt")
        return 2

    async def _do(self, step: str) -> None:
        self.steps.append(step)
        if step == self.hangs_in:
            self.began.set()
            await self.release.wait()
        if step in self.failures:
            raise self.failures[step]


@dataclass
class Classroom:
    """Teachers by name, and everything that a query leaves behind."""

    learner: FakeLearner = field(default_factory=FakeLearner)
    shelf: Shelf = field(default_factory=Shelf)
    deadlines: Deadlines = USUAL_DEADLINES
    network: MemoryNetwork = field(default_factory=MemoryNetwork)
    links: list[tuple[str, PeerClient]] = field(default_factory=list)
    progress: list[Progress] = field(default_factory=list)
    patience: Patience = QUICK

    def add(self, name: str, teacher: FakeTeacher) -> FakeTeacher:
        self.network.serve(peer_of(name), teacher)
        self.links.append((name, self.network.connect(ME, peer_of(name), self.deadlines)))
        return teacher

    async def learn(self, asked: Query, model: StudentModel = MODEL) -> QueryOutcome:
        outcome = QueryOutcome(asked)
        await self.run(outcome, model)
        return outcome

    async def run(self, outcome: QueryOutcome, model: StudentModel = MODEL) -> None:
        student = Student(
            self.learner, self.shelf, samples_per_class=SAMPLES, probes=64, patience=self.patience
        )
        await student.learn(outcome, model, links=self.links, progress=self.progress.append)


def peer_of(name: str) -> PeerId:
    return PeerId(name.ljust(52, "a"))
