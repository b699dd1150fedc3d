"""The journal: everything that a node must still know after a restart, in one SQLite file."""

from __future__ import annotations

from qkt_p2p.store.banks import Banks
from qkt_p2p.store.models import Models
from qkt_p2p.store.peers import Peers
from qkt_p2p.store.queries import Queries
from qkt_p2p.store.records import ModelRecord, PeerRecord, QueryRecord, QueryState
from qkt_p2p.store.responses import Responses
from qkt_p2p.store.statistics import Statistics
from qkt_p2p.store.transfers import Transfers

__all__ = ["Journal", "ModelRecord", "PeerRecord", "QueryRecord", "QueryState"]


class Journal(Queries, Responses, Transfers, Banks, Statistics, Models, Peers):
    """All tables of a node's state.sqlite; see `Database` for threads, processes and errors."""

    def interrupt_running(self) -> int:
        """Mark queries that a crash left running as interrupted; returns how many.

        Drops half-saved banks too. For the start of a daemon, before its worker runs: work that is under
        way looks the same.
        """
        with self._transaction() as connection:
            connection.execute("DELETE FROM banks WHERE key IS NULL")
            return connection.execute(
                "UPDATE queries SET state = 'interrupted' WHERE state = 'running'"
            ).rowcount
