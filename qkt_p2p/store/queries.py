"""Queries: what is needed to go on with them, and how they ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qkt_p2p.errors import QktError
from qkt_p2p.store.database import Database, Row, from_json, to_json
from qkt_p2p.store.records import UNDER_WAY, QueryRecord, QueryState

if TYPE_CHECKING:
    from qkt_p2p.types import Query, QueryId


class Queries(Database):
    """The journal's table of queries."""

    def start_query(
        self,
        query: Query,
        started_at: float,
        *,
        token: str = "",
        options_json: str = "",
        kept_json: str = "",
    ) -> None:
        """Record a query that begins now; `started_at` in seconds since 1970 UTC.

        Raises QktError where another query has the token.
        """
        self._write(
            "INSERT INTO queries"
            " (query_id, classes, state, step, started_at, result_json, token, options_json, kept_json)"
            " VALUES (?, ?, 'running', '', ?, '', ?, ?, ?)",
            (query.query_id, to_json(query.classes), started_at, token or None, options_json, kept_json),
        )

    def set_query_step(self, query_id: QueryId, step: str) -> None:
        """Record the step that a running query has reached."""
        self._update("UPDATE queries SET step = ? WHERE query_id = ?", (step, query_id))

    def begin_attempt(self, query_id: QueryId) -> None:
        """Count that a query begins, or goes on."""
        self._update("UPDATE queries SET attempts = attempts + 1 WHERE query_id = ?", (query_id,))

    def forgive_attempts(self, query_id: QueryId) -> None:
        """Forget how often a query began: it is not what ended the daemon."""
        self._update("UPDATE queries SET attempts = 0 WHERE query_id = ?", (query_id,))

    def keep_query(self, query_id: QueryId, kept_json: str, *, step_finished: bool) -> None:
        """Keep what is needed to go on with a query; a step that it finished is worth new attempts."""
        self._update(
            "UPDATE queries SET kept_json = ?, attempts = CASE WHEN ? THEN 1 ELSE attempts END"
            " WHERE query_id = ?",
            (kept_json, step_finished, query_id),
        )

    def resume_query(self, query_id: QueryId) -> None:
        """Record that a query goes on that a daemon left under way."""
        self._update("UPDATE queries SET state = 'resumed' WHERE query_id = ?", (query_id,))

    def finish_query(
        self, query_id: QueryId, state: QueryState, result_json: str, *, error_json: str = ""
    ) -> None:
        """Record how a query ended and the result that its owner was given."""
        self._update(
            "UPDATE queries SET state = ?, result_json = ?, error_json = ?, kept_json = ''"
            " WHERE query_id = ?",
            (state, result_json, error_json, query_id),
        )

    def query_records(self, limit: int = 100) -> list[QueryRecord]:
        """Return the latest queries, newest first."""
        return [_record(row) for row in self._rows(f"{_SELECT} ORDER BY number DESC LIMIT ?", (limit,))]

    def queries_under_way(self) -> list[QueryRecord]:
        """Return the queries that have not ended, in the order in which they began."""
        return [
            _record(row) for row in self._rows(f"{_SELECT} WHERE state IN (?, ?) ORDER BY number", UNDER_WAY)
        ]

    def query_record(self, query_id: QueryId) -> QueryRecord | None:
        """Return one query, or None where the journal has none of that id."""
        row = self._row(f"{_SELECT} WHERE query_id = ?", (query_id,))
        return None if row is None else _record(row)

    def query_of_token(self, token: str) -> QueryRecord | None:
        """Return the query that was asked with a token, or None where there is none."""
        row = self._row(f"{_SELECT} WHERE token = ?", (token,))
        return None if row is None else _record(row)

    def _update(self, statement: str, values: tuple[Any, ...]) -> None:
        if self._write(statement, values) == 0:
            raise QktError(f"the journal has no query {values[-1]}", fix="qkt-node queries")


_SELECT = (
    "SELECT query_id, classes, state, step, started_at, result_json, error_json, token, options_json,"
    " kept_json, attempts FROM queries"
)


def _record(row: Row) -> QueryRecord:
    query_id, classes, state, step, started_at, result_json, error_json, token, *rest = row
    options_json, kept_json, attempts = rest
    return QueryRecord(
        query_id=query_id,
        classes=from_json(classes),
        state=state,
        step=step,
        started_at=started_at,
        result_json=result_json,
        error_json=error_json,
        token=token or "",
        options_json=options_json,
        kept_json=kept_json,
        attempts=attempts,
    )
