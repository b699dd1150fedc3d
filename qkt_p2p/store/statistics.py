"""The statistics from which this node draws synthetic batches: costly to fit, cheap to keep."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from qkt_p2p.store.database import Database


class Statistics(Database):
    """The journal's table of statistics; a key names everything that they depend on.

    The version of the model, where they depend on it, is in the key between two dashes.
    """

    def get_statistics(self, key: str) -> bytes | None:
        """Return the statistics kept under a key, or None."""
        row = self._row("SELECT data FROM statistics WHERE key = ?", (key,))
        return None if row is None else bytes(row[0])

    def put_statistics(self, key: str, data: bytes) -> None:
        """Keep statistics under a key."""
        self._write("INSERT OR REPLACE INTO statistics (key, data) VALUES (?, ?)", (key, data))

    def evict_statistics(self, max_bytes: int, *, model_version: int = 0) -> int:
        """Drop statistics until the rest take at most `max_bytes`; returns how many.

        Those of other versions of the model than `model_version` go first, and of each those made first.
        """
        evicted = self._write(
            "DELETE FROM statistics WHERE key IN (SELECT key FROM (SELECT key, sum(length(data))"
            " OVER (ORDER BY instr(key, ?) > 0 DESC, rowid DESC) AS with_better FROM statistics)"
            " WHERE with_better > ?)",
            (f"-{model_version}-", max_bytes),
        )
        if evicted:
            self._shrink()
        return evicted

    def statistics(self, *, max_bytes: int = sys.maxsize, model_version: int = 0) -> KeptStatistics:
        """Return all statistics as a cache; what is put there evicts others, as `evict_statistics` does."""
        return KeptStatistics(self, max_bytes, model_version)


@dataclass(frozen=True, slots=True)
class KeptStatistics:
    """The table as the StatisticsCache of a teacher."""

    table: Statistics
    max_bytes: int
    model_version: int

    def get(self, key: str) -> bytes | None:
        """Return the statistics kept under a key, or None."""
        return self.table.get_statistics(key)

    def __setitem__(self, key: str, data: bytes) -> None:
        self.table.put_statistics(key, data)
        self.table.evict_statistics(self.max_bytes, model_version=self.model_version)
