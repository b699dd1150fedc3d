"""What one query needs of the world: teachers to ask, a place for what they send, and a learner."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from qkt_p2p.outcome import QueryOutcome
from qkt_p2p.types import Progress

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from qkt_p2p.types import (
        Chunk,
        ClassName,
        LearningTask,
        PeerId,
        ProbeReport,
        ProbeRequest,
        Query,
        QueryId,
        TeachOffer,
        TeachPart,
        TeachRequest,
        TransferRecord,
        Validation,
    )

ReportProgress = Callable[[Progress], None]

KeepOutcome = Callable[[QueryOutcome], None]


class TeacherLink(Protocol):
    """A connection to a peer that may teach; counts the bytes of its probes and responses.

    Its calls raise PEER_FAILURES.
    """

    peer: PeerId
    bytes_sent: int
    bytes_received: int

    async def probe(self, request: ProbeRequest) -> ProbeReport:
        """Ask for evidence of what the peer's model knows."""
        ...

    def teach(self, request: TeachRequest) -> AsyncGenerator[TeachPart]:
        """Yield the parts of a masked synthetic response; closing it ends the peer's work."""
        ...


class ResponseStore(Protocol):
    """Where responses wait for the learner: the journal."""

    def save_offer(self, query_id: QueryId, source: str, offer: TeachOffer) -> None:
        """Keep what a teacher is going to send; called from any thread."""
        ...

    def load_offer(self, query_id: QueryId, source: str) -> TeachOffer | None:
        """Return what a teacher said last that it is going to send, None where it said nothing."""
        ...

    def save_chunks(self, query_id: QueryId, source: str, chunks: Sequence[tuple[bytes, Chunk]]) -> None:
        """Keep chunks, each given with its digest.

        Called from any thread, by several at once, as is the next.
        """
        ...

    def held_digests(self, query_id: QueryId) -> set[bytes]:
        """Return the digests of the chunks that need not be sent again; it may have to read them."""
        ...

    def held_by_source(self, query_id: QueryId) -> Mapping[str, tuple[int, int]]:
        """Return how many of these chunks each teacher brought, whatever it offers now, and their bytes.

        It may have to read them, too.
        """
        ...


class History(Protocol):
    """What earlier queries of this node took: by this it knows what is slow, and how long learning takes."""

    def transfers_of(self, peer: PeerId) -> Sequence[TransferRecord]:
        """Return the latest transfers of a peer."""
        ...

    def note_transfer(self, peer: PeerId, record: TransferRecord) -> None:
        """Keep how one response of a peer came."""
        ...

    def learning_seconds(self) -> Sequence[float]:
        """Return how long the latest queries took from the first phase to the verdict."""
        ...


class StudentStore(ResponseStore, History, Protocol):
    """What a student keeps, on one disk."""


class Learner(Protocol):
    """The parts of a query that compute; each step continues from what the last one left on disk."""

    async def preferred_media(self) -> tuple[str, ...]:
        """Return the media in the order in which this student learns best from them."""
        ...

    async def stem(self, medium: str, progress: ReportProgress) -> bytes:
        """Return the stem of the student as an ONNX graph, empty where the medium needs none."""
        ...

    async def check_response(self, query: Query, source: PeerId, classes: tuple[ClassName, ...]) -> None:
        """Decode what `source` sent of `classes`; raises ProtocolError where it is not usable."""
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
