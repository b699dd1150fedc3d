"""Peers to dial again after a restart: hints, for who a peer is only TLS can say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qkt_p2p.limits import MAX_PEERS
from qkt_p2p.store.database import Database, from_json, to_json
from qkt_p2p.store.records import PeerRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qkt_p2p.types import PeerId


class Peers(Database):
    """The journal's table of peers."""

    def remember_peer(
        self, peer_id: PeerId, node_name: str, *, addresses: Sequence[str], found_by: str, last_seen_at: float
    ) -> None:
        """Keep where a peer was last reached; beyond MAX_PEERS the one unseen for longest is forgotten."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO peers (peer, node_name, addresses, found_by, last_seen_at)"
                " VALUES (?, ?, ?, ?, ?)",
                (peer_id, node_name, to_json(addresses), found_by, last_seen_at),
            )
            connection.execute(
                "DELETE FROM peers WHERE peer NOT IN"
                " (SELECT peer FROM peers ORDER BY last_seen_at DESC, peer LIMIT ?)",
                (MAX_PEERS,),
            )

    def known_peers(self) -> list[PeerRecord]:
        """Return the remembered peers, last seen first."""
        rows = self._rows(
            "SELECT peer, node_name, addresses, found_by, last_seen_at FROM peers"
            " ORDER BY last_seen_at DESC, peer"
        )
        return [PeerRecord(peer, name, from_json(addresses), *rest) for peer, name, addresses, *rest in rows]
