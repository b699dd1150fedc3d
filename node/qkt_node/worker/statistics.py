"""Released statistics in the journal, where every later query of every asker finds them again."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qkt_p2p.store.journal import Journal


class JournalStatistics:
    """A StatisticsCache over the journal's table."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def __contains__(self, key: object) -> bool:
        return self._journal.get_statistics(str(key)) is not None

    def __getitem__(self, key: str) -> bytes:
        data = self._journal.get_statistics(key)
        if data is None:
            raise KeyError(key)
        return data

    def __setitem__(self, key: str, data: bytes) -> None:
        self._journal.put_statistics(key, data)
