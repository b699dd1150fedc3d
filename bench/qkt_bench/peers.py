"""The other nodes of a bench in this process: they probe and teach; and what they send, kept in memory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from qkt_p2p.errors import PeerRefusedError
from qkt_p2p.privacy.accountant import PrivacyBudget
from qkt_p2p.privacy.ledger import Privacy
from qkt_p2p.teacher import Teacher, TeacherSettings
from qkt_p2p.types import PEER_ID_CHARACTERS, PeerId, TeachEnd

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from qkt_bench.federation import BenchNode
    from qkt_p2p.privacy.ledger import Release
    from qkt_p2p.types import (
        Chunk,
        ClassName,
        Heartbeat,
        NodeDescription,
        PeerAddress,
        ProbeReport,
        ProbeRequest,
        QueryId,
        TeachOffer,
        TeachPart,
        TeachRequest,
        TransferRecord,
    )

MODEL_VERSION = 1

DELTA: Final = 1e-6
"""Of the privacy of what teachers with an epsilon release."""


class OpenLedger:
    """A ledger without a limit: each query of a bench is one release."""

    def released(self, key: str) -> bytes | None:
        """Return None: every query gets noise of its own."""
        del key
        return None

    def require_room(self, class_name: ClassName, mu: float, *, most_mu: float) -> None:
        """Let everything through."""

    def note_release(self, release: Release, *, most_mu: float) -> bytes:
        """Return the release's data."""
        del most_mu
        return release.data


def teacher_of(node: BenchNode, *, epsilon: float = 0.0) -> Teacher:
    """Return what answers for a node; with an `epsilon` each release is (epsilon, DELTA)-private."""
    privacy = Privacy(PrivacyBudget(epsilon, epsilon, DELTA), OpenLedger()) if epsilon else None
    return Teacher(
        node.classifier,
        node.train,
        model_version=MODEL_VERSION,
        settings=TeacherSettings(),
        cache={},
        privacy=privacy,
    )


def peer_of(node: BenchNode) -> PeerId:
    """Return a peer id that a node's name makes."""
    return PeerId(node.name.replace("-", "").ljust(PEER_ID_CHARACTERS, "a")[:PEER_ID_CHARACTERS])


class TeachingNode:
    """A peer that probes and teaches, and has nothing else to say."""

    def __init__(self, teacher: Teacher, *, masked: bool = True) -> None:
        self._teacher = teacher
        self._masked = masked

    async def hello(self, caller: PeerId, node: NodeDescription) -> NodeDescription:
        """Refuse: there is no membership within a bench."""
        raise _only_teaches(caller, node)

    async def heartbeat(self, caller: PeerId, beat: Heartbeat) -> Heartbeat:
        """Refuse."""
        raise _only_teaches(caller, beat)

    async def exchange_peers(self, caller: PeerId, peers: tuple[PeerAddress, ...]) -> tuple[PeerAddress, ...]:
        """Refuse."""
        raise _only_teaches(caller, peers)

    async def exchange_revocations(self, caller: PeerId, lists: bytes) -> bytes:
        """Refuse."""
        raise _only_teaches(caller, lists)

    async def probe(self, caller: PeerId, request: ProbeRequest) -> ProbeReport:
        """Show what the model knows; unmasked, it claims whatever it has data of."""
        del caller
        report = self._teacher.probe(request)
        if self._masked:
            return report
        claimed = [
            replace(item, evidence=1.0, teachable=True)
            for item in report.evidence
            if self._teacher.holds(item.class_name)
        ]
        return replace(report, evidence=tuple(claimed))

    async def teach(self, caller: PeerId, request: TeachRequest) -> AsyncGenerator[TeachPart]:
        """Yield the response."""
        del caller
        offer, chunks = self._teacher.teach(request)
        yield offer
        for chunk in [] if request.offer_only else chunks:
            yield chunk
        yield TeachEnd(0 if request.offer_only else len(chunks))


@dataclass
class Shelf:
    """Keeps what is received in memory, as the journal does on disk."""

    held: dict[bytes, bytes] = field(default_factory=dict)
    offers: dict[str, TeachOffer] = field(default_factory=dict)

    def save_offer(self, query_id: QueryId, source: str, offer: TeachOffer) -> None:
        """Keep what a teacher is going to send."""
        del query_id
        self.offers[source] = offer

    def load_offer(self, query_id: QueryId, source: str) -> TeachOffer | None:
        """Return what a teacher said last that it is going to send."""
        del query_id
        return self.offers.get(source)

    def save_chunks(self, query_id: QueryId, source: str, chunks: Sequence[tuple[bytes, Chunk]]) -> None:
        """Keep chunks by their content."""
        del query_id, source
        self.held.update((digest, chunk.data) for digest, chunk in chunks)

    def held_digests(self, query_id: QueryId) -> set[bytes]:
        """Return the digests of what was received."""
        del query_id
        return set(self.held)

    def held_by_source(self, query_id: QueryId) -> Mapping[str, tuple[int, int]]:
        """Return none: no query is resumed."""
        del query_id
        return {}

    def transfers_of(self, peer: PeerId) -> Sequence[TransferRecord]:
        """Return none: nobody is known."""
        del peer
        return ()

    def note_transfer(self, peer: PeerId, record: TransferRecord) -> None:
        """Keep nothing: the next query has another shelf."""

    def learning_seconds(self) -> Sequence[float]:
        """Return none: no query came before."""
        return ()


def _only_teaches(caller: PeerId, *asked: object) -> PeerRefusedError:
    del asked
    return PeerRefusedError(f"nothing but probes and lessons for {caller}")
