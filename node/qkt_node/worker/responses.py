"""What teachers sent for a query: journal -> what a lesson reads, with weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qkt_p2p.errors import ProtocolError
from qkt_p2p.masking.masks import teacher_weights

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qkt_p2p.distillation import Response
    from qkt_p2p.lesson import Lesson
    from qkt_p2p.store.journal import Journal
    from qkt_p2p.types import ClassName, PeerId, Query, TeachOffer


def load_responses(
    journal: Journal, query: Query, lesson: Lesson, evidence: Mapping[PeerId, Mapping[ClassName, float]]
) -> list[Response]:
    """Return the responses of the teachers of `evidence`, each class weighted by its share of evidence.

    Raises ProtocolError where what one sent is not what it offered, or not usable.
    """
    weights = teacher_weights(evidence)
    offers = {peer: _offer(journal, query, peer) for peer in evidence}
    # Peer ids differ between two set-ups of one federation; what was offered does not.
    order = sorted(offers, key=lambda peer: [info.digest for info in offers[peer].chunks])
    return [
        lesson.read(peer, offers[peer].classes, _parts(journal, query, peer, offers[peer]), weights[peer])
        for peer in order
    ]


def offered_medium(journal: Journal, query: Query, peer: PeerId) -> str:
    """Return the medium of a teacher's offer; raises ProtocolError where it made none."""
    return _offer(journal, query, peer).medium


def _offer(journal: Journal, query: Query, peer: PeerId) -> TeachOffer:
    offer = journal.load_offer(query.query_id, peer)
    if offer is None:
        raise ProtocolError(f"peer {peer} made no offer for query {query.query_id}")
    return offer


def _parts(journal: Journal, query: Query, peer: PeerId, offer: TeachOffer) -> list[bytes]:
    """Return all chunks of one teacher, in the offer's order."""
    parts = list(journal.load_chunks(query.query_id, peer))
    if [len(part) for part in parts] != [info.size for info in offer.chunks]:
        raise ProtocolError("the response does not hold the chunks that were offered")
    return parts
