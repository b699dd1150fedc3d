"""Queries and how they ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qkt_p2p.errors import QktError
from qkt_p2p.store.database import Database, Row, from_json, to_json
from qkt_p2p.store.records import QueryRecord, QueryState

if TYPE_CHECKING:
    from qkt_p2p.types import Query, QueryId


class Queries(Database):
    """The journal's table of queries."""

    def start_query(self, query: Query, started_at: float) -> None:
        """Record a query that begins now; `started_at` in seconds since 1970 UTC."""
        self._write(
            "INSERT INTO queries (query_id, classes, state, step, started_at, result_json)"
            " VALUES (?, ?, 'running', '', ?, '')",
            (query.query_id, to_json(query.classes), started_at),
        )

    def set_query_step(self, query_id: QueryId, step: str) -> None:
        """Record the step that a running query has reached."""
        self._update("UPDATE queries SET step = ? WHERE query_id = ?", (step, query_id))

    def finish_query(self, query_id: QueryId, state: QueryState, result_json: str) -> None:
        """Record how a query ended and the result that its owner was given."""
        self._update(
            "UPDATE queries SET state = ?, result_json = ? WHERE query_id = ?", (state, result_json, query_id)
        )

    def query_records(self, limit: int = 100) -> list[QueryRecord]:
        """Return the latest queries, newest first."""
        return [_record(row) for row in self._rows(f"{_SELECT} ORDER BY number DESC LIMIT ?", (limit,))]

    def query_record(self, query_id: QueryId) -> QueryRecord | None:
        """Return one query, or None where the journal has none of that id."""
        row = self._row(f"{_SELECT} WHERE query_id = ?", (query_id,))
        return None if row is None else _record(row)

    def _update(self, statement: str, values: tuple[str, ...]) -> None:
        if self._write(statement, values) == 0:
            raise QktError(f"the journal has no query {values[-1]}", fix="qkt-node queries")


_SELECT = "SELECT query_id, classes, state, step, started_at, result_json FROM queries"


def _record(row: Row) -> QueryRecord:
    query_id, classes, state, step, started_at, result_json = row
    return QueryRecord(
        query_id=query_id,
        classes=from_json(classes),
        state=state,
        step=step,
        started_at=started_at,
        result_json=result_json,
    )
