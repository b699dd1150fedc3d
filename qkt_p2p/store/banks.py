"""What this node made to teach others: banks of synthetic batches."""

from __future__ import annotations

from dataclasses import astuple
from typing import TYPE_CHECKING

from qkt_p2p.errors import QktError
from qkt_p2p.store.database import Database, from_json, to_json
from qkt_p2p.types import Chunk, ChunkInfo, TeachOffer

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable


class Banks(Database):
    """The journal's tables of banks; a key names everything that a bank depends on."""

    def save_bank(self, key: str, offer: TeachOffer, chunks: Iterable[Chunk]) -> None:
        """Keep a bank in place of an earlier one of its key, whole or not at all.

        `chunks` are the offer's, in any order, and may be made while they are taken: each is written in a
        transaction of its own, under no key, so the other process never waits for synthesis.
        """
        with self._transaction() as connection:
            number = connection.execute(
                "INSERT INTO banks (medium, model_version, classes, encoding, last_use)"
                " VALUES (?, ?, ?, ?, 0)",
                (offer.medium, offer.model_version, to_json(offer.classes), offer.encoding),
            ).lastrowid
        try:
            self._save_bank_chunks(number, offer, chunks)
            with self._transaction() as connection:
                connection.execute("DELETE FROM banks WHERE key = ?", (key,))
                connection.execute("UPDATE banks SET key = ? WHERE number = ?", (key, number))
                _touch(connection, key)
        except BaseException:
            self._write("DELETE FROM banks WHERE number = ?", (number,))
            raise

    def load_bank(self, key: str) -> TeachOffer | None:
        """Return the offer of a bank and count this as a use, or None where there is none."""
        with self._transaction() as connection:
            row = connection.execute(
                "SELECT number, medium, model_version, classes, encoding FROM banks WHERE key = ?", (key,)
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
        )

    def load_bank_chunk(self, key: str, index: int) -> bytes:
        """Return one chunk of a bank; raises QktError where it was evicted meanwhile."""
        row = self._row(
            "SELECT data FROM bank_chunks JOIN banks ON bank = number WHERE key = ? AND position = ?",
            (key, index),
        )
        if row is None:
            raise QktError(f"bank {key} holds no chunk {index} any more", fix="ask again")
        return bytes(row[0])

    def evict_banks(self, max_bytes: int) -> int:
        """Drop the banks unused for longest until the rest take at most `max_bytes`; returns how many."""
        with self._transaction() as connection:
            sizes = connection.execute(
                "SELECT number, sum(size) FROM banks JOIN bank_chunks ON bank = number"
                " WHERE key IS NOT NULL GROUP BY number ORDER BY last_use"
            ).fetchall()
            excess = sum(size for _, size in sizes) - max_bytes
            evicted = 0
            for number, size in sizes:
                if excess <= 0:
                    break
                connection.execute("DELETE FROM banks WHERE number = ?", (number,))
                excess -= size
                evicted += 1
        if evicted:
            self._shrink()
        return evicted

    def _save_bank_chunks(self, number: int | None, offer: TeachOffer, chunks: Iterable[Chunk]) -> None:
        missing = set(range(len(offer.chunks)))
        for chunk in chunks:
            info = offer.chunks[chunk.index] if chunk.index in missing else None
            if info is None or info.size != len(chunk.data):
                raise QktError(f"chunk {chunk.index} ({len(chunk.data)} bytes) is not as its offer says")
            self._write(
                "INSERT INTO bank_chunks (bank, position, digest, size, samples, plain_size, data)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (number, chunk.index, *astuple(info), chunk.data),
            )
            missing.remove(chunk.index)
        if missing:
            raise QktError(f"a bank lacks the chunks {sorted(missing)} of its offer")


def _touch(connection: sqlite3.Connection, key: str) -> None:
    # A counter, not a clock: the order of uses survives a clock that is set back.
    connection.execute(
        "UPDATE banks SET last_use = 1 + (SELECT max(last_use) FROM banks) WHERE key = ?", (key,)
    )
