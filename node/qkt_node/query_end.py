"""How a query ended: in the journal, in memory for as long as the disk does not take it, and told again."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import structlog

from qkt_node.background import Background
from qkt_node.events import Ended, Started
from qkt_node.model_files import remove_candidates
from qkt_p2p.errors import QktError, UsageError, error_from_code
from qkt_p2p.limits import RECORD_AGAIN_SECONDS
from qkt_p2p.store.records import UNDER_WAY

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from qkt_node.events import QueryEvent
    from qkt_p2p.store.journal import Journal
    from qkt_p2p.store.records import QueryRecord, QueryState
    from qkt_p2p.types import QueryId

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class End:
    """How a query ended, what its owner is told, and why it was not accepted."""

    query_id: QueryId
    state: QueryState
    data: dict[str, Any]
    error: QktError | None


class Ends:
    """Records how queries ended, and tries again, with pauses of so many seconds, what the disk did not take.

    `shown` is what is true meanwhile. `stop` tries a last time; what is not recorded then goes on with the
    next daemon, as after a crash, and each owner was told so.
    """

    def __init__(self, journal: Journal, models: Path, *, pause: float = RECORD_AGAIN_SECONDS) -> None:
        self._journal = journal
        self._models = models
        self._pause = pause
        self._unrecorded: dict[QueryId, tuple[End, QktError | None]] = {}
        self._background = Background()

    @property
    def unrecorded(self) -> int:
        """Ends that the disk has not taken yet."""
        return len(self._unrecorded)

    async def record(self, end: End) -> QktError | None:
        """Record an end and forget what was received for the query; return the error to tell its owner."""
        log.info("query_ended", query=end.query_id, state=end.state, reason=end.data["reason"])
        failure = await self._try(end)
        if failure is None:
            return end.error
        log.error("end_not_recorded", query=end.query_id, error=failure.message, fix=failure.fix)
        told = end.error and end.error.told_as(
            f"{end.error.message}; the journal does not say so yet ({failure.message}): "
            f"if the daemon ends before it does, the query goes on at its next start"
        )
        if not self._unrecorded:
            self._background.start(self._try_again(), "record ends of queries")
        self._unrecorded[end.query_id] = end, told
        return told

    def shown(self, record: QueryRecord) -> QueryRecord:
        """Return what the journal says of a query, or would if the disk had taken it."""
        if record.query_id not in self._unrecorded:
            return record
        end, told = self._unrecorded[record.query_id]
        return replace(record, state=end.state, result_json=json.dumps(end.data), error_json=_as_json(told))

    async def stop(self) -> None:
        """Try what is left a last time; idempotent."""
        await self._background.stop()
        await self._try_all()

    async def _try_again(self) -> None:
        while self._unrecorded:
            await asyncio.sleep(self._pause)
            await self._try_all()

    async def _try_all(self) -> None:
        for end, _ in list(self._unrecorded.values()):
            if await self._try(end) is None:
                del self._unrecorded[end.query_id]
                log.info("end_recorded", query=end.query_id, state=end.state)

    async def _try(self, end: End) -> QktError | None:
        """Record an end on another thread, for it waits for the disk; return why that failed."""
        try:
            await asyncio.to_thread(self._write, end)
        except QktError as failure:
            return failure
        return None

    def _write(self, end: End) -> None:
        try:
            self._finish(end)
        except QktError:
            # What was received for it, up to a GiB, may be what fills the disk; it is of no more use.
            self._journal.drop_responses(end.query_id)
            self._finish(end)
        self._journal.drop_responses(end.query_id)
        # Only now: where the disk fails and the daemon ends, the query may have to go on with these.
        remove_candidates(self._models, end.query_id)

    def _finish(self, end: End) -> None:
        self._journal.finish_query(
            end.query_id, end.state, json.dumps(end.data), error_json=_as_json(end.error)
        )


async def recorded_events(record: QueryRecord) -> AsyncGenerator[QueryEvent]:
    """Tell the end of a query as its owner was told it; raises UsageError where it has not ended."""
    require_ended(record)
    yield Started(record.query_id)
    yield Ended(json.loads(record.result_json or "{}"), _recorded_error(record))


def require_ended(record: QueryRecord) -> None:
    """Raise UsageError where a query has not ended, and is not under way here either."""
    if record.state in UNDER_WAY:
        raise UsageError(f"query {record.query_id} is not taken up again yet", fix="qkt-node queries")


def _as_json(error: QktError | None) -> str:
    return "" if error is None else json.dumps(error.as_data())


def _recorded_error(record: QueryRecord) -> QktError | None:
    if record.error_json:
        return error_from_code(**json.loads(record.error_json))
    # Journals of earlier versions do not tell.
    return (
        None if record.state == "accepted" else QktError(f"query {record.query_id} ended as {record.state}")
    )
