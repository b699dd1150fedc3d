"""What teachers in the arena teach, and a learner that reads all of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Collection
from dataclasses import dataclass, field
from hashlib import sha256

from qkt_p2p.digests import chunk_digest
from qkt_p2p.errors import PeerRefusedError, ProtocolError
from qkt_p2p.seams import ReportProgress
from qkt_p2p.store.journal import Journal
from qkt_p2p.types import (
    Chunk,
    ChunkInfo,
    ClassName,
    LearningTask,
    PeerId,
    Query,
    TeachEnd,
    TeachOffer,
    TeachPart,
    TeachRequest,
    Validation,
)
from tests.student.classroom import CAT, DOG, OWL, FakeLearner, FakeTeacher

KNOWLEDGE = {"first": (CAT, DOG), "second": (DOG, OWL), "third": (OWL, CAT)}
"""Each class has two teachers, so that one of them may fail."""

ASKED = (DOG, OWL)
CHUNKS_PER_CLASS, CLASS_BYTES = 5, 40 * 1024


def chunks_of(teacher: str, name: ClassName, seed: int, pieces: int = CHUNKS_PER_CLASS) -> list[bytes]:
    """Return what a teacher sends of a class, whenever it is asked for it with that seed.

    One piece is a recipe: where some came, those classes can be learned. Of more, all have to come.
    """
    generator = random.Random(f"{teacher} {name} {seed}")
    return [generator.randbytes(CLASS_BYTES // pieces) for _ in range(pieces)]


@dataclass
class BankTeacher(FakeTeacher):
    """Teaches what its bank holds, a chunk every `pace` seconds; `full` is what its disk is."""

    name: str = ""
    pieces: int = CHUNKS_PER_CLASS
    pace: float = 0.0
    full: bool = False

    async def teach(self, caller: PeerId, request: TeachRequest) -> AsyncGenerator[TeachPart]:
        self.requests.append(request)
        if self.full:
            raise PeerRefusedError("this node cannot answer now: its owner finds the reason in its log")
        offer, data = bank(self.name, request, self.pieces)
        yield offer
        missing = [at for at, info in enumerate(offer.chunks) if info.digest not in request.held]
        for at in missing:
            await asyncio.sleep(self.pace)
            yield Chunk(at, data[at])
        yield TeachEnd(len(missing))


def bank(
    teacher: str, request: TeachRequest, pieces: int = CHUNKS_PER_CLASS
) -> tuple[TeachOffer, list[bytes]]:
    """Return the whole response of a teacher to a request."""
    data = [each for name in request.classes for each in chunks_of(teacher, name, request.seed, pieces)]
    samples = request.samples_per_class // pieces
    infos = tuple(ChunkInfo(chunk_digest(each), len(each), samples) for each in data)
    return TeachOffer(request.medium, 1, request.classes, infos), data


@dataclass
class ReadingLearner(FakeLearner):
    """Reads all that was collected, as a learner does, and notes its digest by teacher."""

    journal: Journal | None = None
    learned: dict[PeerId, str] = field(default_factory=dict)

    async def check_response(self, query: Query, source: PeerId, classes: tuple[ClassName, ...]) -> None:
        self._read(query, source, classes)
        await super().check_response(query, source, classes)

    async def phase1(self, task: LearningTask, progress: ReportProgress) -> None:
        await asyncio.sleep(0)
        self.learned = {
            source: self._read(task.query, source, classes) for source, classes in task.evidence.items()
        }
        await super().phase1(task, progress)

    async def phase2(self, task: LearningTask, progress: ReportProgress) -> None:
        await asyncio.sleep(0)
        await super().phase2(task, progress)

    async def validate(self, task: LearningTask, progress: ReportProgress) -> Validation:
        await asyncio.sleep(0)
        return await super().validate(task, progress)

    def _read(self, query: Query, source: PeerId, classes: Collection[ClassName]) -> str:
        """Return the digest of what came of some classes; raises ProtocolError where any of it is missing."""
        assert self.journal is not None
        offer = self.journal.load_offer(query.query_id, source)
        assert offer is not None
        held = dict(self.journal.load_chunks(query.query_id, source))
        if not offer.arrived(held) or not set(classes) <= set(offer.arrived(held)):
            raise ProtocolError("the response is not what was offered")
        return sha256(b"".join(held[info.digest] for info in offer.only(classes).chunks)).hexdigest()
