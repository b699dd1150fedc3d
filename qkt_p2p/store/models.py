"""Versions of the node's model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qkt_p2p.store.database import Database, Row, from_json, to_json
from qkt_p2p.store.records import ModelRecord, RollbackRecord

if TYPE_CHECKING:
    from qkt_p2p.types import QueryId


class Models(Database):
    """The journal's tables of model versions, and of the times when one was made current again."""

    def add_model(self, record: ModelRecord) -> None:
        """Record a model version; raises QktError where that version is taken."""
        self._write(
            "INSERT INTO models"
            " (version, parent, created_at, known_classes, query_id, file, sha256, metadata_json)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                record.version,
                record.parent,
                record.created_at,
                to_json(record.known_classes),
                record.query_id,
                record.file,
                record.sha256,
                record.metadata_json,
            ),
        )

    def model_records(self) -> list[ModelRecord]:
        """Return all model versions, newest first."""
        return [_record(row) for row in self._rows(f"{_SELECT} ORDER BY version DESC")]

    def model_of_query(self, query_id: QueryId) -> ModelRecord | None:
        """Return the model version that a query brought, or None where it brought none."""
        row = self._row(f"{_SELECT} WHERE query_id = ? ORDER BY version DESC LIMIT 1", (query_id,))
        return None if row is None else _record(row)

    def model_record(self, version: int) -> ModelRecord | None:
        """Return one model version, or None where there is none of that number."""
        row = self._row(f"{_SELECT} WHERE version = ?", (version,))
        return None if row is None else _record(row)

    def add_rollback(self, record: RollbackRecord) -> None:
        """Record that an earlier version becomes current again."""
        self._write(
            "INSERT INTO rollbacks (rolled_back_at, replaced, version) VALUES (?, ?, ?)",
            (record.rolled_back_at, record.replaced, record.version),
        )

    def rollback_records(self) -> list[RollbackRecord]:
        """Return how often an earlier version became current again, the latest time first."""
        rows = self._rows("SELECT rolled_back_at, replaced, version FROM rollbacks ORDER BY number DESC")
        return [RollbackRecord(*row) for row in rows]

    def next_model_version(self) -> int:
        """Return the number for the next model version, from 1."""
        ((version,),) = self._rows("SELECT coalesce(max(version), 0) + 1 FROM models")
        return int(version)


_SELECT = (
    "SELECT version, parent, created_at, known_classes, query_id, file, sha256, metadata_json FROM models"
)


def _record(row: Row) -> ModelRecord:
    version, parent, created_at, known_classes, query_id, file, sha256, metadata_json = row
    return ModelRecord(
        version=version,
        parent=parent,
        created_at=created_at,
        known_classes=from_json(known_classes),
        query_id=query_id,
        file=file,
        sha256=sha256,
        metadata_json=metadata_json,
    )
