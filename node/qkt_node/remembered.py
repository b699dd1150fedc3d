"""Peers that outlive the daemon: whom it reached, it dials again after a restart."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import structlog

from qkt_p2p.discovery import FoundBy, Membership
from qkt_p2p.errors import QktError
from qkt_p2p.types import short

if TYPE_CHECKING:
    from qkt_p2p.store.journal import Journal
    from qkt_p2p.types import NodeDescription, PeerId

log = structlog.get_logger(__name__)

DIALED_AGAIN: Final = 64
"""Peers dialed again after a restart, those seen last; they tell of the others."""


class RememberingMembership(Membership):
    """A membership that keeps in the journal at which address each peer answered."""

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal

    def introduce(
        self, peer: PeerId, description: NodeDescription, *, address: str, found_by: FoundBy
    ) -> None:
        """Note a hello; an address that a peer only claims, as a caller does, is not kept."""
        super().introduce(peer, description, address=address, found_by=found_by)
        if not address:
            return
        try:
            self._journal.remember_peer(
                peer,
                description.node_name,
                addresses=(address,),
                found_by=found_by,
                last_seen_at=time.time(),
            )
        except QktError as error:
            log.warning("peer_not_remembered", peer=short(peer), error=error.message)


def remembered_peers(journal: Journal) -> list[tuple[PeerId, tuple[str, ...], FoundBy]]:
    """Return where the peers seen last answered before this daemon started, and how each was found."""
    kinds = {kind.value: kind for kind in FoundBy}
    return [
        (record.peer, record.addresses, kinds.get(record.found_by, FoundBy.EXCHANGE))
        for record in journal.known_peers()[:DIALED_AGAIN]
    ]
