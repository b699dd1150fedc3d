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

    def put_statistics(self, key: str, data: bytes, *, model_version: int = 0) -> None:
        """Keep statistics under a key; `model_version` 0 says that they depend on no model, only on data."""
        self._write(
            "INSERT OR REPLACE INTO statistics (key, model_version, data) VALUES (?, ?, ?)",
            (key, model_version, data),
        )

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

    def statistics(self, model_version: int = 0) -> MutableMapping[str, bytes]:
        """Return all statistics as a mapping; what is put into it belongs to `model_version`."""
        return _KeptStatistics(self, model_version)

    def _drop(self, key: str) -> int:
        return self._write("DELETE FROM statistics WHERE key = ?", (key,))

    def _keys(self) -> list[str]:
        return [key for (key,) in self._rows("SELECT key FROM statistics ORDER BY key")]


class _KeptStatistics(MutableMapping[str, bytes]):
    """The table as a mapping that outlives the process."""

    def __init__(self, table: Statistics, model_version: int) -> None:
        self._table = table
        self._model_version = model_version

    def __getitem__(self, key: str) -> bytes:
        data = self._table.get_statistics(key)
        if data is None:
            raise KeyError(key)
        return data

    def __setitem__(self, key: str, data: bytes) -> None:
        self._table.put_statistics(key, data, model_version=self._model_version)

    def __delitem__(self, key: str) -> None:
        if self._table._drop(key) == 0:
            raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._table._keys())

    def __len__(self) -> int:
        return len(self._table._keys())
