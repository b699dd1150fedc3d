"""The statistics from which this node draws synthetic batches: costly to fit, cheap to keep."""

from __future__ import annotations

from dataclasses import dataclass

from qkt_p2p.store.database import Database


class Statistics(Database):
    """The journal's table of statistics; a key names everything that they depend on."""

    def get_statistics(self, key: str) -> bytes | None:
        """Return the statistics kept under a key, or None."""
        row = self._row("SELECT data FROM statistics WHERE key = ?", (key,))
        return None if row is None else bytes(row[0])

    def put_statistics(self, key: str, data: bytes) -> None:
        """Keep statistics under a key."""
        self._write("INSERT OR REPLACE INTO statistics (key, data) VALUES (?, ?)", (key, data))

    def evict_statistics(self, max_bytes: int) -> int:
        """Drop the statistics made first until the rest take at most `max_bytes`; returns how many."""
        evicted = self._write(
            "DELETE FROM statistics WHERE key IN (SELECT key FROM (SELECT key, sum(length(data))"
            " OVER (ORDER BY rowid DESC) AS with_later FROM statistics) WHERE with_later > ?)",
            (max_bytes,),
        )
        if evicted:
            self._shrink()
        return evicted

    def statistics(self) -> KeptStatistics:
        """Return all statistics as a cache that outlives the process."""
        return KeptStatistics(self)


@dataclass(frozen=True, slots=True)
class KeptStatistics:
    """The table as the StatisticsCache of a teacher."""

    table: Statistics

    def get(self, key: str) -> bytes | None:
        """Return the statistics kept under a key, or None."""
        return self.table.get_statistics(key)

    def __setitem__(self, key: str, data: bytes) -> None:
        self.table.put_statistics(key, data)
