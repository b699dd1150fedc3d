"""What teachers sent for a query, kept until the query ends so that a broken stream can resume.

Chunks are held by content: one that several teachers offer, or one teacher offers again, is kept once.
"""

from __future__ import annotations

import json
import threading
from dataclasses import astuple
from typing import TYPE_CHECKING

from qkt_p2p.digests import chunk_digest
from qkt_p2p.errors import ProtocolError
from qkt_p2p.store.database import Database, from_json, to_json
from qkt_p2p.types import ChunkInfo, QueryId, TeachOffer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from qkt_p2p.types import Chunk


class Responses(Database):
    """The journal's tables of offers and chunks; `source` names the teacher, as its peer id does."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        # Whoever asks what is held does not wait for whoever saves, only for the first look.
        self._checking, self._saving = threading.Lock(), threading.Lock()
        self._sound: dict[QueryId, set[bytes]] = {}

    def save_offer(self, query_id: QueryId, source: str, offer: TeachOffer) -> None:
        """Record what a teacher is going to send, in place of its earlier offer; held chunks stay."""
        self._chunks.make(owner_of(query_id))
        with self._transaction() as connection:
            connection.execute("DELETE FROM offers WHERE query_id = ? AND source = ?", (query_id, source))
            connection.execute(
                "INSERT INTO offers"
                " (query_id, source, medium, model_version, classes, encoding, epsilon, delta)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(query_id, source, offer.medium, offer.model_version, to_json(offer.classes)),
                    *(offer.encoding, offer.epsilon, offer.delta),
                ),
            )
            connection.executemany(
                "INSERT INTO offered_chunks (query_id, source, position, digest, size, samples, plain_size)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    (query_id, source, position, *astuple(chunk))
                    for position, chunk in enumerate(offer.chunks)
                ),
            )

    def save_chunks(self, query_id: QueryId, source: str, chunks: Sequence[tuple[bytes, Chunk]]) -> None:
        """Keep chunks of the teacher's offer, all or none: each with its digest, which the caller checked.

        Raises ProtocolError where the offer has another there, and QktError where the disk has no room.
        """
        self._require_offered(query_id, source, chunks)
        held = self._sound_chunks(query_id)
        with self._saving:
            new = {digest: chunk.data for digest, chunk in chunks if digest not in held}
            if not new:
                return
            # The rows follow their data: what a crash leaves without one is no chunk, only space.
            starts = self._chunks.append(owner_of(query_id), tuple(new.values()))
            with self._transaction() as connection:
                connection.executemany(
                    "INSERT INTO held_chunks (query_id, digest, start, size, source) VALUES (?, ?, ?, ?, ?)",
                    [
                        (query_id, digest, start, len(data), source)
                        for (digest, data), start in zip(new.items(), starts, strict=True)
                    ],
                )
            held.update(new)

    def load_offer(self, query_id: QueryId, source: str) -> TeachOffer | None:
        """Return the teacher's offer, or None where it made none."""
        with self._lock:
            row = self._row(
                "SELECT medium, model_version, classes, encoding, epsilon, delta FROM offers"
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
            epsilon=row[4],
            delta=row[5],
        )

    def load_chunks(self, query_id: QueryId, source: str) -> Iterator[tuple[bytes, bytes]]:
        """Yield digest and data of the held chunks of the teacher's offer by index; no damaged one.

        One is in memory at a time.
        """
        places = self._rows(
            "SELECT start, held_chunks.size, digest"
            " FROM offered_chunks JOIN held_chunks USING (query_id, digest)"
            " WHERE query_id = ? AND offered_chunks.source = ? ORDER BY position",
            (query_id, source),
        )
        for start, size, digest in places:
            (data,) = self._chunks.read(owner_of(query_id), [(start, size)])
            if chunk_digest(data) == digest:
                yield digest, data

    def held_digests(self, query_id: QueryId) -> set[bytes]:
        """Return the digests of all chunks held for a query, from whichever teacher.

        The first time, this reads and checks all of them: nothing for the thread of an event loop.
        """
        return self._sound_chunks(query_id).copy()

    def held_by_source(self, query_id: QueryId) -> dict[str, tuple[int, int]]:
        """Return how many chunks each teacher brought for a query that are held, and their bytes.

        Chunks of its earlier offers count, too. What is not as it came is forgotten first.
        """
        self._sound_chunks(query_id)
        rows = self._rows(
            "SELECT source, count(*), sum(size) FROM held_chunks WHERE query_id = ? GROUP BY source",
            (query_id,),
        )
        return {source: (chunks, size) for source, chunks, size in rows}

    def drop_responses(self, query_id: QueryId) -> None:
        """Forget what teachers sent for a query and give the space back."""
        # First the file: where it fills the disk no row can be deleted. Rows without it hold no chunk.
        self._chunks.drop(owner_of(query_id))
        with self._checking:
            self._sound.pop(query_id, None)
        with self._transaction() as connection:
            connection.execute("DELETE FROM offers WHERE query_id = ?", (query_id,))
            connection.execute("DELETE FROM held_chunks WHERE query_id = ?", (query_id,))
        self._shrink()

    def _require_offered(self, query_id: QueryId, source: str, chunks: Sequence[tuple[bytes, Chunk]]) -> None:
        rows = self._rows(
            "SELECT position, digest FROM offered_chunks"
            " WHERE query_id = ? AND source = ? AND position IN (SELECT value FROM json_each(?))",
            (query_id, source, json.dumps([chunk.index for _, chunk in chunks])),
        )
        offered: dict[int, bytes] = dict(rows)
        for digest, chunk in chunks:
            if offered.get(chunk.index) != digest:
                raise ProtocolError(
                    f"{source} sent a chunk {chunk.index} that it did not offer for query {query_id}"
                )

    def _sound_chunks(self, query_id: QueryId) -> set[bytes]:
        """Return the digests of the chunks that this process wrote or has checked; a save adds to them.

        A process that is killed loses nothing that it wrote, a power cut does; the rows tell of both.
        """
        with self._checking:
            if query_id not in self._sound:
                self._sound[query_id] = self._check(query_id)
            return self._sound[query_id]

    def _check(self, query_id: QueryId) -> set[bytes]:
        """Read all chunks held for a query; forget those that are not as they came: they come again."""
        rows = self._rows("SELECT start, size, digest FROM held_chunks WHERE query_id = ?", (query_id,))
        sound, owner = set(), owner_of(query_id)
        for start, size, digest in rows:
            (data,) = self._chunks.read(owner, [(start, size)])
            if chunk_digest(data) == digest:
                sound.add(digest)
            else:
                self._write("DELETE FROM held_chunks WHERE query_id = ? AND digest = ?", (query_id, digest))
        return sound


def owner_of(query_id: QueryId) -> str:
    """Return the name under which a query's chunks are kept."""
    return f"query-{query_id}"
