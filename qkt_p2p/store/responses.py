"""What teachers sent for a query, kept until the query ends so that a broken stream can resume.

Chunks are held by content: one that several teachers offer, or one teacher offers again, is kept once.
"""

from __future__ import annotations

from dataclasses import astuple
from typing import TYPE_CHECKING

from qkt_p2p.errors import ProtocolError
from qkt_p2p.store.database import Database, from_json, to_json
from qkt_p2p.types import ChunkInfo, QueryId, TeachOffer

if TYPE_CHECKING:
    from collections.abc import Iterator


class Responses(Database):
    """The journal's tables of offers and chunks; `source` names the teacher, as its peer id does."""

    def save_offer(self, query_id: QueryId, source: str, offer: TeachOffer) -> None:
        """Record what a teacher is going to send, in place of its earlier offer; held chunks stay."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM offers WHERE query_id = ? AND source = ?", (query_id, source))
            connection.execute(
                "INSERT INTO offers (query_id, source, medium, model_version, classes, encoding)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (query_id, source, offer.medium, offer.model_version, to_json(offer.classes), offer.encoding),
            )
            connection.executemany(
                "INSERT INTO offered_chunks (query_id, source, position, digest, size, samples, plain_size)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    (query_id, source, position, *astuple(chunk))
                    for position, chunk in enumerate(offer.chunks)
                ),
            )

    def save_chunk(self, query_id: QueryId, source: str, *, index: int, data: bytes, digest: bytes) -> None:
        """Keep one chunk of the teacher's offer; raises ProtocolError where the offer has another there."""
        with self._transaction() as connection:
            offered = connection.execute(
                "SELECT digest FROM offered_chunks WHERE query_id = ? AND source = ? AND position = ?",
                (query_id, source, index),
            ).fetchone()
            if offered is None or offered[0] != digest:
                raise ProtocolError(
                    f"{source} sent a chunk {index} that it did not offer for query {query_id}"
                )
            connection.execute(
                "INSERT OR IGNORE INTO held_chunks (query_id, digest, data) VALUES (?, ?, ?)",
                (query_id, digest, data),
            )

    def load_offer(self, query_id: QueryId, source: str) -> TeachOffer | None:
        """Return the teacher's offer, or None where it made none."""
        with self._lock:
            row = self._row(
                "SELECT medium, model_version, classes, encoding FROM offers"
                " WHERE query_id = ? AND source = ?",
                (query_id, source),
            )
            chunks = self._rows(
                "SELECT digest, size, samples, plain_size FROM offered_chunks"
                " WHERE query_id = ? AND source = ? ORDER BY position",
                (query_id, source),
            )
        if row is None:
            return None
        return TeachOffer(
            medium=row[0],
            model_version=row[1],
            classes=from_json(row[2]),
            chunks=tuple(ChunkInfo(*chunk) for chunk in chunks),
            encoding=row[3],
        )

    def load_chunks(self, query_id: QueryId, source: str) -> Iterator[bytes]:
        """Yield the held chunks of the teacher's offer by index, one in memory at a time."""
        position = -1
        while row := self._row(
            "SELECT position, data FROM offered_chunks JOIN held_chunks USING (query_id, digest)"
            " WHERE query_id = ? AND source = ? AND position > ? ORDER BY position LIMIT 1",
            (query_id, source, position),
        ):
            position, data = row
            yield data

    def held_digests(self, query_id: QueryId) -> set[bytes]:
        """Return the digests of all chunks held for a query, from whichever teacher."""
        statement = "SELECT digest FROM held_chunks WHERE query_id = ?"
        return {digest for (digest,) in self._rows(statement, (query_id,))}

    def response_sources(self, query_id: QueryId) -> list[str]:
        """Return the teachers that made an offer for a query, in order of their names."""
        statement = "SELECT source FROM offers WHERE query_id = ? ORDER BY source"
        return [source for (source,) in self._rows(statement, (query_id,))]

    def drop_responses(self, query_id: QueryId) -> None:
        """Forget what teachers sent for a query and give the space back."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM offers WHERE query_id = ?", (query_id,))
            connection.execute("DELETE FROM held_chunks WHERE query_id = ?", (query_id,))
        self._shrink()
