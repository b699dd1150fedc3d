"""How the responses of peers came, and how long this node learned from them: by this, what is slow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from qkt_p2p.limits import MAX_TRANSFERS, TRANSFERS_OF_A_PEER
from qkt_p2p.store.database import Database
from qkt_p2p.types import TransferRecord

if TYPE_CHECKING:
    from qkt_p2p.types import PeerId

_LATEST: Final = 8
"""Queries by which the next one's learning is judged: the data and the machine of lately."""


class Transfers(Database):
    """The journal's table of transfers."""

    def note_transfer(self, peer: PeerId, record: TransferRecord) -> None:
        """Keep how one response of a peer came; the oldest beyond the caps are forgotten."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO transfers (peer, offer_seconds, bytes, seconds) VALUES (?, ?, ?, ?)",
                (peer, record.offer_seconds, record.bytes, record.seconds),
            )
            connection.execute(
                "DELETE FROM transfers WHERE peer = ? AND number NOT IN"
                " (SELECT number FROM transfers WHERE peer = ? ORDER BY number DESC LIMIT ?)",
                (peer, peer, TRANSFERS_OF_A_PEER),
            )
            connection.execute(
                "DELETE FROM transfers WHERE number <= (SELECT max(number) FROM transfers) - ?",
                (MAX_TRANSFERS,),
            )

    def transfers_of(self, peer: PeerId) -> list[TransferRecord]:
        """Return the transfers of a peer that are remembered, the latest first."""
        rows = self._rows(
            "SELECT offer_seconds, bytes, seconds FROM transfers WHERE peer = ? ORDER BY number DESC", (peer,)
        )
        return [TransferRecord(*row) for row in rows]

    def learning_seconds(self) -> list[float]:
        """Return how long the latest queries that were judged took from phase 1 to the verdict."""
        rows = self._rows(
            "SELECT json_extract(result_json, '$.seconds.phase1')"
            " + json_extract(result_json, '$.seconds.phase2')"
            " + json_extract(result_json, '$.seconds.validate')"
            " FROM queries WHERE state IN ('accepted', 'refused') AND json_valid(result_json)"
            " ORDER BY number DESC LIMIT ?",
            (_LATEST,),
        )
        return [seconds for (seconds,) in rows if seconds is not None]
