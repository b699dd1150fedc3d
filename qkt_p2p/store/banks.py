"""What this node made to teach others: banks of synthetic batches."""

from __future__ import annotations

import json
from dataclasses import astuple
from secrets import randbits
from typing import TYPE_CHECKING

from qkt_p2p.digests import chunk_digest
from qkt_p2p.errors import QktError
from qkt_p2p.store.database import Database, Row, from_json, to_json
from qkt_p2p.types import Chunk, ChunkInfo, TeachOffer

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Container, Iterable, Sequence


class Banks(Database):
    """The journal's tables of banks; a key names everything that a bank depends on."""

    def save_bank(self, key: str, offer: TeachOffer, chunks: Iterable[Chunk]) -> None:
        """Keep a bank in place of an earlier one of its key, whole or not at all.

        `chunks` are the offer's, in any order, and may be made while they are taken: they are written under
        no key, so the other process never waits for synthesis.
        """
        # Never a number that another bank had: its files may be about to be removed.
        number = randbits(63)
        self._write(
            "INSERT INTO banks (number, medium, model_version, classes, encoding, epsilon, delta, last_use)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, 0)",
            (
                *(number, offer.medium, offer.model_version, to_json(offer.classes)),
                *(offer.encoding, offer.epsilon, offer.delta),
            ),
        )
        try:
            self._save_bank_chunks(number, offer, chunks)
            with self._transaction() as connection:
                old = connection.execute("SELECT number FROM banks WHERE key = ?", (key,)).fetchall()
                connection.execute("DELETE FROM banks WHERE key = ?", (key,))
                connection.execute("UPDATE banks SET key = ? WHERE number = ?", (key, number))
                _touch(connection, key)
        except BaseException:
            self._drop_bank(number)
            raise
        self._drop_chunks_of(old)

    def load_bank(self, key: str) -> TeachOffer | None:
        """Return the offer of a bank and count this as a use, or None where there is none."""
        with self._transaction() as connection:
            row = connection.execute(
                "SELECT number, medium, model_version, classes, encoding, epsilon, delta FROM banks"
                " WHERE key = ?",
                (key,),
            ).fetchone()
            if row is None:
                return None
            _touch(connection, key)
            chunks = connection.execute(
                "SELECT digest, size, samples, plain_size FROM bank_chunks WHERE bank = ? ORDER BY position",
                row[:1],
            ).fetchall()
        return TeachOffer(
            medium=row[1],
            model_version=row[2],
            classes=from_json(row[3]),
            chunks=tuple(ChunkInfo(*chunk) for chunk in chunks),
            encoding=row[4],
            epsilon=row[5],
            delta=row[6],
        )

    def load_bank_chunks(
        self, key: str, places: Sequence[int], *, checked: Container[int] = ()
    ) -> list[bytes] | None:
        """Return chunks of a bank, None where there is no such bank any more.

        Where the disk lost one, or one that is to be `checked` is not what was saved, the bank is dropped, so
        that it is made anew, and QktError raised.
        """
        rows = self._rows(
            "SELECT position, number, start, size, digest FROM bank_chunks JOIN banks ON bank = number"
            " WHERE key = ? AND position IN (SELECT value FROM json_each(?))",
            (key, json.dumps(list(places))),
        )
        found = {row[0]: row[1:] for row in rows}
        if not found.keys() >= set(places):
            return None
        number = rows[0][1]
        try:
            chunks = self._chunks.read(owner_of(number), [found[at][1:3] for at in places])
        except QktError:
            self._drop_bank(number)
            raise
        for at, data in zip(places, chunks, strict=True):
            _, _, size, digest = found[at]
            if len(data) != size or (at in checked and chunk_digest(data) != digest):
                if not self._drop_bank(number) and not data:
                    # Evicted after its rows were read, and its file with it.
                    return None
                raise QktError(
                    f"chunk {at} of {owner_of(number)} in {self._path}-chunks is not what was saved",
                    fix="check the disk; the bank is dropped, and made anew for the next who asks",
                )
        return chunks

    def evict_banks(self, max_bytes: int) -> int:
        """Drop the banks unused for longest until the rest take at most `max_bytes`; returns how many.

        The one used last stays whatever it takes: it was made for somebody who is about to be sent it.
        """
        with self._transaction() as connection:
            sizes = connection.execute(
                "SELECT number, sum(size) FROM banks JOIN bank_chunks ON bank = number"
                " WHERE key IS NOT NULL GROUP BY number ORDER BY last_use"
            ).fetchall()
            excess = sum(size for _, size in sizes) - max_bytes
            evicted = []
            for number, size in sizes[:-1]:
                if excess <= 0:
                    break
                connection.execute("DELETE FROM banks WHERE number = ?", (number,))
                excess -= size
                evicted.append((number,))
        self._drop_chunks_of(evicted)
        return len(evicted)

    def _drop_bank(self, number: int) -> bool:
        """Drop a bank; return whether it was still there."""
        # First the file: where it fills the disk no row can be deleted. Without it the bank is known to be
        # damaged, and dropped, by who reads it next.
        self._chunks.drop(owner_of(number))
        return bool(self._write("DELETE FROM banks WHERE number = ?", (number,)))

    def _drop_chunks_of(self, banks: Iterable[Row]) -> None:
        for (number,) in banks:
            self._chunks.drop(owner_of(number))
        self._shrink()

    def _save_bank_chunks(self, number: int, offer: TeachOffer, chunks: Iterable[Chunk]) -> None:
        missing, owner = set(range(len(offer.chunks))), owner_of(number)
        rows = []
        self._chunks.make(owner)
        for chunk in chunks:
            info = offer.chunks[chunk.index] if chunk.index in missing else None
            if info is None or info.size != len(chunk.data):
                raise QktError(f"chunk {chunk.index} ({len(chunk.data)} bytes) is not as its offer says")
            (start,) = self._chunks.append(owner, [chunk.data])
            rows.append((number, chunk.index, *astuple(info), start))
            missing.remove(chunk.index)
        if missing:
            raise QktError(f"a bank lacks the chunks {sorted(missing)} of its offer")
        # Before the rows that tell of them: a power cut leaves both or neither.
        self._chunks.sync(owner)
        with self._transaction() as connection:
            connection.executemany(
                "INSERT INTO bank_chunks (bank, position, digest, size, samples, plain_size, start)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                rows,
            )


def owner_of(number: int) -> str:
    """Return the name under which a bank's chunks are kept."""
    return f"bank-{number:016x}"


def _touch(connection: sqlite3.Connection, key: str) -> None:
    # A counter, not a clock: the order of uses survives a clock that is set back.
    connection.execute(
        "UPDATE banks SET last_use = 1 + (SELECT max(last_use) FROM banks) WHERE key = ?", (key,)
    )
