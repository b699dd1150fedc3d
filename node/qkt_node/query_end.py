"""How a query ended: recorded in the journal, and told again to whoever asks later."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import structlog

from qkt_node.events import Ended, Started
from qkt_node.model_files import remove_candidates
from qkt_p2p.errors import QktError, UsageError, error_from_code
from qkt_p2p.store.records import UNDER_WAY

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from qkt_node.events import QueryEvent
    from qkt_p2p.outcome import QueryOutcome
    from qkt_p2p.store.journal import Journal
    from qkt_p2p.store.records import QueryRecord, QueryState

log = structlog.get_logger(__name__)


def record_end(
    outcome: QueryOutcome,
    state: QueryState,
    *,
    data: dict[str, Any],
    error: QktError | None,
    journal: Journal,
    models: Path,
) -> None:
    """Record how a query ended and what its owner is told, and forget what was received for it.

    For another thread than the event loop's: it waits for the disk, and removes what may be a GiB.
    """
    query_id = outcome.query.query_id
    error_json = "" if error is None else json.dumps(error.as_data())
    try:
        journal.finish_query(query_id, state, json.dumps(data), error_json=error_json)
        journal.drop_responses(query_id)
    except QktError as failure:
        log.error("end_not_recorded", query=query_id, error=failure.message)
    remove_candidates(models, query_id)
    log.info("query_ended", query=query_id, state=state, reason=outcome.reason)


async def recorded_events(record: QueryRecord) -> AsyncGenerator[QueryEvent]:
    """Tell the end of a query as its owner was told it; raises UsageError where it has not ended."""
    if record.state in UNDER_WAY:
        raise UsageError(f"query {record.query_id} is not taken up again yet", fix="qkt-node queries")
    yield Started(record.query_id)
    yield Ended(json.loads(record.result_json or "{}"), _recorded_error(record))


def _recorded_error(record: QueryRecord) -> QktError | None:
    if record.error_json:
        return error_from_code(**json.loads(record.error_json))
    # Journals of earlier versions do not tell.
    return (
        None if record.state == "accepted" else QktError(f"query {record.query_id} ended as {record.state}")
    )
