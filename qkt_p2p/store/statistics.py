"""The statistics from which this node draws synthetic batches: costly to fit, cheap to keep."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping

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

    def statistics(self) -> MutableMapping[str, bytes]:
        """Return all statistics as a mapping."""
        return _KeptStatistics(self)

    def _drop(self, key: str) -> int:
        return self._write("DELETE FROM statistics WHERE key = ?", (key,))

    def _keys(self) -> list[str]:
        return [key for (key,) in self._rows("SELECT key FROM statistics ORDER BY key")]


class _KeptStatistics(MutableMapping[str, bytes]):
    """The table as a mapping that outlives the process."""

    def __init__(self, table: Statistics) -> None:
        self._table = table

    def __getitem__(self, key: str) -> bytes:
        data = self._table.get_statistics(key)
        if data is None:
            raise KeyError(key)
        return data

    def __setitem__(self, key: str, data: bytes) -> None:
        self._table.put_statistics(key, data)

    def __delitem__(self, key: str) -> None:
        if self._table._drop(key) == 0:
            raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._table._keys())

    def __len__(self) -> int:
        return len(self._table._keys())
