"""One SQLite file, shared by the daemon and its worker process and by the threads of each."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from qkt_p2p.errors import ConfigError, QktError
from qkt_p2p.store.chunk_files import ChunkFiles
from qkt_p2p.store.schema import MIGRATIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

BUSY_SECONDS: Final = 30.0
"""Longest wait for the other process's transaction; each takes milliseconds, a slow disk some seconds."""

WRITE_AHEAD_LOG_BYTES: Final = 16 * 1024 * 1024
"""Size at which SQLite moves its write-ahead log into the file, and to which it cuts the log back: each move
waits for the disk twice, and the rows of a GiB of chunks make some such a log."""

Row = tuple[Any, ...]


class Database:
    """A SQLite file behind one connection and one lock; every method may be called from any thread.

    The file has mode 0600 and is created where it is missing. Raises ConfigError where it is no
    journal, is damaged, or was written by newer software, and QktError where the disk fails.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        with self._translated():
            _create_private(path)
            self._chunks = ChunkFiles(path.with_name(f"{path.name}-chunks"))
            self._connection = sqlite3.connect(
                path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        try:
            with self._translated():
                self._configure()
                self._migrate()
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the file; closing twice is harmless."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Hold the write lock over a block, which is kept whole or undone whole."""
        with self._lock, self._translated():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                # SQLite undoes a transaction by itself after some errors, such as a full disk.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _durable_transaction(self) -> Iterator[sqlite3.Connection]:
        """Hold the write lock as `_transaction` does, for what even a power cut must not undo."""
        with self._lock:
            self._connection.execute("PRAGMA synchronous = FULL")
            try:
                with self._transaction() as connection:
                    yield connection
            finally:
                self._connection.execute("PRAGMA synchronous = NORMAL")

    def _write(self, statement: str, values: Iterable[Any] = ()) -> int:
        """Run one writing statement; returns the number of rows that it touched."""
        with self._transaction() as connection:
            return connection.execute(statement, tuple(values)).rowcount

    def _rows(self, statement: str, values: Iterable[Any] = ()) -> list[Row]:
        """Return all rows of a reading statement."""
        with self._lock, self._translated():
            return self._connection.execute(statement, tuple(values)).fetchall()

    def _row(self, statement: str, values: Iterable[Any] = ()) -> Row | None:
        """Return the first row of a reading statement, or None."""
        rows = self._rows(statement, values)
        return rows[0] if rows else None

    def _shrink(self) -> None:
        """Give pages that deleted rows left behind back to the disk."""
        with self._lock, self._translated():
            # `execute` would free a single page: it steps a statement without columns only once.
            self._connection.executescript("PRAGMA incremental_vacuum")

    def _configure(self) -> None:
        execute = self._connection.execute
        # This holds only before the first table is made; it lets `_shrink` work.
        execute("PRAGMA auto_vacuum = INCREMENTAL")
        execute("PRAGMA foreign_keys = ON")
        if execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = NORMAL")
        page_bytes = execute("PRAGMA page_size").fetchone()[0]
        execute(f"PRAGMA wal_autocheckpoint = {WRITE_AHEAD_LOG_BYTES // page_bytes}")
        execute(f"PRAGMA journal_size_limit = {WRITE_AHEAD_LOG_BYTES}")

    def _migrate(self) -> None:
        if self._schema_version() == len(MIGRATIONS):
            return
        with self._transaction() as connection:
            # Read again: the other process may have migrated while this one waited for the lock.
            version = self._schema_version()
            if version > len(MIGRATIONS):
                raise ConfigError(
                    f"{self._path} was written by newer software: its schema is version {version}, "
                    f"this software knows up to {len(MIGRATIONS)}",
                    fix="update with `pip install -U qkt-node`, or give another --home",
                )
            connection.create_function("moved_chunk", 2, self._moved_chunk)
            for migration in MIGRATIONS[version:]:
                for statement in migration:
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    def _moved_chunk(self, query_id: str, data: bytes) -> int:
        """Put a chunk that an earlier version kept in the database where they are now, and tell the place."""
        owner = f"query-{query_id}"
        self._chunks.make(owner)
        return self._chunks.append(owner, [data])[0]

    def _schema_version(self) -> int:
        return int(self._connection.execute("PRAGMA user_version").fetchone()[0])

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn SQLite's and the system's errors into ours, in one place."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise QktError(
                f"cannot use the journal {self._path}: {error}",
                fix=f"check free space and permissions of {self._path.parent}, then repeat",
            ) from error
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError):
                raise QktError(f"cannot change the journal {self._path}: {error}") from error
            raise ConfigError(
                f"{self._path} is damaged or no journal: {error}",
                fix=f"restore it, or begin an empty one with `mv {self._path} {self._path}.damaged`",
            ) from error
        except OSError as error:
            raise ConfigError(
                f"cannot use the journal {self._path}: {error.strerror}",
                fix=f"check that {self._path.parent} exists and is yours",
            ) from error


def to_json(names: Iterable[str]) -> str:
    """Encode a list of names for one column."""
    return json.dumps(list(names), ensure_ascii=False)


def from_json(text: str) -> tuple[Any, ...]:
    """Decode a list of names from one column."""
    return tuple(json.loads(text))


def _create_private(path: Path) -> None:
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        return
    # SQLite gives its side files the mode of the main file. Never open and close an existing journal
    # by hand: that would drop the locks of this process's other connections to it.
    path.chmod(0o600)
