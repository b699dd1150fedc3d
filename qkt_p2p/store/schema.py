"""The journal's schema: migration n brings a file from version n to n + 1 and is never edited afterwards."""

from __future__ import annotations

from typing import Final

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        """CREATE TABLE queries (
            number INTEGER PRIMARY KEY,
            query_id TEXT NOT NULL UNIQUE,
            classes TEXT NOT NULL,
            state TEXT NOT NULL,
            step TEXT NOT NULL,
            started_at REAL NOT NULL,
            result_json TEXT NOT NULL
        )""",
        """CREATE TABLE offers (
            query_id TEXT NOT NULL,
            source TEXT NOT NULL,
            medium TEXT NOT NULL,
            model_version INTEGER NOT NULL,
            classes TEXT NOT NULL,
            PRIMARY KEY (query_id, source)
        )""",
        """CREATE TABLE offered_chunks (
            query_id TEXT NOT NULL,
            source TEXT NOT NULL,
            position INTEGER NOT NULL,
            digest BLOB NOT NULL,
            size INTEGER NOT NULL,
            samples INTEGER NOT NULL,
            PRIMARY KEY (query_id, source, position),
            FOREIGN KEY (query_id, source) REFERENCES offers ON DELETE CASCADE
        ) WITHOUT ROWID""",
        """CREATE TABLE held_chunks (
            query_id TEXT NOT NULL,
            digest BLOB NOT NULL,
            data BLOB NOT NULL,
            PRIMARY KEY (query_id, digest)
        )""",
        """CREATE TABLE banks (
            number INTEGER PRIMARY KEY,
            key TEXT UNIQUE,
            medium TEXT NOT NULL,
            model_version INTEGER NOT NULL,
            classes TEXT NOT NULL,
            last_use INTEGER NOT NULL
        )""",
        """CREATE TABLE bank_chunks (
            bank INTEGER NOT NULL REFERENCES banks ON DELETE CASCADE,
            position INTEGER NOT NULL,
            digest BLOB NOT NULL,
            size INTEGER NOT NULL,
            samples INTEGER NOT NULL,
            data BLOB NOT NULL,
            PRIMARY KEY (bank, position)
        )""",
        """CREATE TABLE statistics (
            key TEXT PRIMARY KEY,
            model_version INTEGER NOT NULL,
            data BLOB NOT NULL
        )""",
        """CREATE TABLE models (
            version INTEGER PRIMARY KEY,
            parent INTEGER NOT NULL,
            created_at REAL NOT NULL,
            known_classes TEXT NOT NULL,
            query_id TEXT NOT NULL,
            file TEXT NOT NULL,
            sha256 TEXT NOT NULL,
            metadata_json TEXT NOT NULL
        )""",
        """CREATE TABLE peers (
            peer TEXT PRIMARY KEY,
            node_name TEXT NOT NULL,
            addresses TEXT NOT NULL,
            found_by TEXT NOT NULL,
            last_seen_at REAL NOT NULL
        )""",
    ),
    (
        """CREATE TABLE transfers (
            number INTEGER PRIMARY KEY,
            peer TEXT NOT NULL,
            offer_seconds REAL NOT NULL,
            bytes INTEGER NOT NULL,
            seconds REAL NOT NULL
        )""",
        "CREATE INDEX transfers_of_peers ON transfers (peer, number)",
    ),
    (
        "ALTER TABLE offers ADD COLUMN encoding TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE offered_chunks ADD COLUMN plain_size INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE banks ADD COLUMN encoding TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE bank_chunks ADD COLUMN plain_size INTEGER NOT NULL DEFAULT 0",
    ),
    (
        # NULL where the owner gave none: of those there may be many.
        "ALTER TABLE queries ADD COLUMN token TEXT",
        "CREATE UNIQUE INDEX queries_by_token ON queries (token)",
        "ALTER TABLE queries ADD COLUMN options_json TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE queries ADD COLUMN kept_json TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE queries ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE queries ADD COLUMN error_json TEXT NOT NULL DEFAULT ''",
    ),
    (
        # Chunks are in files from here on (chunk_files.py). Banks are made anew when somebody asks.
        "ALTER TABLE held_chunks RENAME TO old_chunks",
        """CREATE TABLE held_chunks (
            query_id TEXT NOT NULL,
            digest BLOB NOT NULL,
            start INTEGER NOT NULL,
            size INTEGER NOT NULL,
            PRIMARY KEY (query_id, digest)
        ) WITHOUT ROWID""",
        "INSERT INTO held_chunks"
        " SELECT query_id, digest, moved_chunk(query_id, data), length(data) FROM old_chunks",
        "DROP TABLE old_chunks",
        "DROP TABLE bank_chunks",
        "DELETE FROM banks",
        """CREATE TABLE bank_chunks (
            bank INTEGER NOT NULL REFERENCES banks ON DELETE CASCADE,
            position INTEGER NOT NULL,
            digest BLOB NOT NULL,
            size INTEGER NOT NULL,
            samples INTEGER NOT NULL,
            plain_size INTEGER NOT NULL,
            start INTEGER NOT NULL,
            PRIMARY KEY (bank, position)
        ) WITHOUT ROWID""",
    ),
    (
        # Their offers name chunks by SHA-256, which no asker accepts any more. What queries hold is checked
        # anyway, and comes again.
        "DELETE FROM banks",
    ),
    (
        # Keys of statistics name the model where they depend on one. The order of their rows is their age.
        "ALTER TABLE statistics RENAME TO old_statistics",
        "CREATE TABLE statistics (key TEXT PRIMARY KEY, data BLOB NOT NULL)",
        "INSERT INTO statistics SELECT key, data FROM old_statistics ORDER BY rowid",
        "DROP TABLE old_statistics",
    ),
    (
        # Who brought a chunk; of those that earlier versions kept nobody knows it.
        "ALTER TABLE held_chunks ADD COLUMN source TEXT NOT NULL DEFAULT ''",
    ),
    (
        """CREATE TABLE rollbacks (
            number INTEGER PRIMARY KEY,
            rolled_back_at REAL NOT NULL,
            replaced INTEGER NOT NULL,
            version INTEGER NOT NULL
        )""",
    ),
    (
        *(
            f"ALTER TABLE {table} ADD COLUMN {column} REAL NOT NULL DEFAULT 0"
            for table in ("offers", "banks")
            for column in ("epsilon", "delta")
        ),
        """CREATE TABLE releases (
            key TEXT PRIMARY KEY,
            class TEXT NOT NULL,
            space TEXT NOT NULL,
            mu REAL NOT NULL,
            released_at REAL NOT NULL,
            data BLOB NOT NULL
        )""",
        "CREATE INDEX releases_of_classes ON releases (class)",
        """CREATE TABLE disclosures (
            peer TEXT NOT NULL,
            class TEXT NOT NULL,
            medium TEXT NOT NULL,
            epsilon REAL NOT NULL,
            delta REAL NOT NULL,
            times INTEGER NOT NULL,
            first_at REAL NOT NULL,
            last_at REAL NOT NULL,
            PRIMARY KEY (peer, class, medium, epsilon, delta)
        ) WITHOUT ROWID""",
    ),
)
