"""What teachers sent for a query: journal -> decoded responses with weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qkt_p2p.distillation import Response
from qkt_p2p.errors import ProtocolError
from qkt_p2p.masking.masks import teacher_weights
from qkt_p2p.wire.tensors import decode_batch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qkt_p2p.store.journal import Journal
    from qkt_p2p.types import ClassName, PeerId, Query, Shape, TeachOffer


def load_responses(
    journal: Journal,
    query: Query,
    *,
    evidence: Mapping[PeerId, Mapping[ClassName, float]],
    input_shape: Shape,
) -> list[Response]:
    """Return the responses of the teachers of `evidence`, each class weighted by its share of evidence.

    Raises ProtocolError where what one sent is not what it offered, or not usable.
    """
    weights = teacher_weights(evidence)
    offers = {peer: _offer(journal, query, peer) for peer in evidence}
    # Peer ids differ between two set-ups of one federation; what was offered does not.
    order = sorted(offers, key=lambda peer: [info.digest for info in offers[peer].chunks])
    responses = []
    for peer in order:
        offer = offers[peer]
        inputs, targets = _contents(journal, query, peer=peer, offer=offer, input_shape=input_shape)
        responses.append(
            Response(
                source=peer, classes=offer.classes, inputs=inputs, targets=targets, weights=weights[peer]
            )
        )
    return responses


def _offer(journal: Journal, query: Query, peer: PeerId) -> TeachOffer:
    offer = journal.load_offer(query.query_id, peer)
    if offer is None:
        raise ProtocolError(f"peer {peer} made no offer for query {query.query_id}")
    return offer


def _contents(
    journal: Journal, query: Query, *, peer: PeerId, offer: TeachOffer, input_shape: Shape
) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs [n, C, H, W] and targets [n, K] of all chunks of one teacher."""
    batches = [
        decode_batch(data, input_shape=input_shape, classes=offer.classes)
        for data in journal.load_chunks(query.query_id, peer)
    ]
    if not batches or [len(batch) for batch in batches] != [info.samples for info in offer.chunks]:
        raise ProtocolError("the response does not hold the samples that were offered")
    return (
        np.concatenate([batch.inputs for batch in batches]),
        np.concatenate([batch.targets for batch in batches]),
    )
