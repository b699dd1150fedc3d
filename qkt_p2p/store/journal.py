"""The journal: what a node must still know after a restart, in a SQLite file and in files of chunks."""

from __future__ import annotations

from typing import Final

from qkt_p2p.store import banks, responses
from qkt_p2p.store.banks import Banks
from qkt_p2p.store.ledger import Releases
from qkt_p2p.store.models import Models
from qkt_p2p.store.peers import Peers
from qkt_p2p.store.queries import Queries
from qkt_p2p.store.records import UNDER_WAY, ModelRecord, PeerRecord, QueryRecord, QueryState
from qkt_p2p.store.responses import Responses
from qkt_p2p.store.statistics import Statistics
from qkt_p2p.store.transfers import Transfers

__all__ = ["Journal", "ModelRecord", "PeerRecord", "QueryRecord", "QueryState"]


_DROP_RESPONSES: Final = (
    "DELETE FROM offers WHERE query_id NOT IN (SELECT query_id FROM queries WHERE state IN (?, ?))",
    "DELETE FROM held_chunks WHERE query_id NOT IN (SELECT query_id FROM queries WHERE state IN (?, ?))",
)


class Journal(Queries, Responses, Transfers, Banks, Releases, Statistics, Models, Peers):
    """All tables of a node's state.sqlite; see `Database` for threads, processes and errors."""

    def drop_remains(self) -> None:
        """Drop what a crash left that nobody goes on with: half-saved banks, responses of ended queries.

        For the start of a daemon, before its worker runs: work that is under way looks the same.
        """
        with self._transaction() as connection:
            connection.execute("DELETE FROM banks WHERE key IS NULL")
            for statement in _DROP_RESPONSES:
                connection.execute(statement, UNDER_WAY)
            numbers = connection.execute("SELECT number FROM banks").fetchall()
        owners = {banks.owner_of(number) for (number,) in numbers}
        owners |= {responses.owner_of(record.query_id) for record in self.queries_under_way()}
        self._chunks.drop_others(owners)
        self._sound.clear()
        self._shrink()
