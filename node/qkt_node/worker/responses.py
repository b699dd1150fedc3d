"""What teachers sent for a query: journal -> what a lesson reads, with weights."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from qkt_p2p.errors import ConfigError, ProtocolError
from qkt_p2p.limits import MAX_DRAWN_NUMBERS
from qkt_p2p.masking.masks import teacher_weights
from qkt_p2p.types import short
from qkt_p2p.wire.encodings import decode_response

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from qkt_p2p.distillation import Response
    from qkt_p2p.lesson import Lesson
    from qkt_p2p.store.journal import Journal
    from qkt_p2p.types import ClassName, PeerId, Query, ReportDone, TeachOffer


class OpenLesson:
    """One lesson, and what its teachers sent, decoded once for all steps of its query.

    A response is known by its teacher, its classes and its offer, whose digests tell every byte; more than
    MAX_DRAWN_NUMBERS numbers are decoded anew each time.
    """

    def __init__(self, journal: Journal, query: Query, lesson: Lesson) -> None:
        self._journal = journal
        self._query = query
        self.lesson = lesson
        self._decoded: dict[tuple[PeerId, TeachOffer, frozenset[ClassName]], Response] = {}

    def check(
        self, peer: PeerId, classes: Collection[ClassName], report: ReportDone = lambda *_: None
    ) -> None:
        """Decode what a teacher sent of `classes`; raises as `responses` does."""
        self._read(peer, _offer(self._journal, self._query, peer), classes, report)

    def responses(
        self,
        evidence: Mapping[PeerId, Mapping[ClassName, float]],
        report: ReportDone = lambda *_: None,
    ) -> list[Response]:
        """Return what teachers taught of the classes of `evidence`, weighted by their shares of it.

        Of many classes and teachers it is as much of each as fits into memory. Raises ProtocolError where
        what one sent is not what it offered, or not usable, and what `report` raises.
        """
        weights, taught = teacher_weights(evidence), sum(map(len, evidence.values()))
        offers = {peer: _offer(self._journal, self._query, peer) for peer in evidence}
        # Peer ids differ between two set-ups of one federation; what was offered does not.
        order = sorted(offers, key=lambda peer: [info.digest for info in offers[peer].chunks])
        return [
            replace(
                self.lesson.fitting(self._read(peer, offers[peer], evidence[peer], report), taught),
                weights=weights[peer],
            )
            for peer in order
        ]

    def _read(
        self, peer: PeerId, offer: TeachOffer, classes: Collection[ClassName], report: ReportDone
    ) -> Response:
        known_as = (peer, offer, frozenset(classes))
        if (kept := self._decoded.get(known_as)) is not None:
            return kept
        held = dict(self._journal.load_chunks(self._query.query_id, peer))
        self._require_undamaged(peer, offer.only(classes), held)
        parts = decode_response(offer, held, classes)
        response = self.lesson.read(peer, offer.classes, parts, {}, report)
        if sum(each.inputs.size for each in (*self._decoded.values(), response)) <= MAX_DRAWN_NUMBERS:
            self._decoded[known_as] = response
        return response

    def _require_undamaged(self, peer: PeerId, offer: TeachOffer, held: Mapping[bytes, bytes]) -> None:
        """Raise ConfigError where the disk changed or lost what had come: all was checked then."""
        if not held.keys() >= {info.digest for info in offer.chunks}:
            raise ConfigError(
                f"what peer {short(peer)} sent for query {self._query.query_id} was damaged in the journal",
                fix="check the disk of this home, then ask again",
            )


def offered_medium(journal: Journal, query: Query, peer: PeerId) -> str:
    """Return the medium of a teacher's offer; raises ProtocolError where it made none."""
    return _offer(journal, query, peer).medium


def _offer(journal: Journal, query: Query, peer: PeerId) -> TeachOffer:
    offer = journal.load_offer(query.query_id, peer)
    if offer is None:
        raise ProtocolError(f"peer {peer} made no offer for query {query.query_id}")
    return offer
