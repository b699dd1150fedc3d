"""This node's queries: they run one at a time, outlive the daemon, and tell whoever watches how they go."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import structlog

from qkt_node.asking import encode_options, query_from, require_same
from qkt_node.kept import KeptQuery, decode_kept, encode_kept
from qkt_node.query_end import End, recorded_events, require_ended
from qkt_node.query_run import QueryRun
from qkt_p2p.commands import command
from qkt_p2p.errors import QktError, UsageError
from qkt_p2p.limits import DRAIN_SECONDS
from qkt_p2p.outcome import QueryOutcome
from qkt_p2p.types import Query

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from qkt_node.events import QueryEvent, QueryOptions
    from qkt_node.query_run import Means
    from qkt_node.settings import NodeConfig
    from qkt_p2p.store.records import QueryRecord, QueryState
    from qkt_p2p.types import QueryId

log = structlog.get_logger(__name__)

MAX_WAITING: Final = 64
"""Queries that one node takes on at once; they run one after the other."""

MAX_ATTEMPTS: Final = 3
"""Times that a query may begin without finishing a step: one that takes the daemon down is then given up."""


class Queries:
    """The queries of one daemon."""

    def __init__(self, means: Means, config: NodeConfig) -> None:
        self._config = config
        self._journal = means.journal
        self._profile = means.profile
        self._means = means
        self._runs: dict[QueryId, QueryRun] = {}

    def start(self, options: QueryOptions) -> AsyncGenerator[QueryEvent]:
        """Begin a query and return its events, from Started to Ended.

        Raises UsageError, and NotTrustedError where no peer would take this node's certificate.
        With a token that was used before it is the same query again: under way, or ended.
        """
        known = self._journal.query_of_token(options.token) if options.token else None
        if known is not None:
            require_same(options, known.options_json, query_id=known.query_id)
            return self.watch(known.query_id)
        query = query_from(options, self._config)
        self._check(query)
        kept = KeptQuery(QueryOutcome(query))
        self._journal.start_query(
            query,
            time.time(),
            token=options.token,
            options_json=encode_options(options),
            kept_json=encode_kept(kept),
        )
        return self._begin(kept).watch()

    def watch(self, query_id: QueryId) -> AsyncGenerator[QueryEvent]:
        """Return the events of a query that is under way or has ended; raises UsageError for none."""
        run = self._runs.get(query_id)
        return recorded_events(self.record(query_id)) if run is None else run.watch()

    def record(self, query_id: QueryId) -> QueryRecord:
        """Return how a query stands, and its result; raises UsageError where there is none."""
        record = self._journal.query_record(query_id)
        if record is None:
            raise UsageError(f"there is no query {query_id[:80]!r}", fix="qkt-node queries list")
        return self._means.ends.shown(record)

    def records(self) -> list[QueryRecord]:
        """Return how the latest queries stand, newest first."""
        return [self._means.ends.shown(record) for record in self._journal.query_records()]

    def is_under_way(self, query_id: QueryId) -> bool:
        """Return whether a query has not ended."""
        return query_id in self._runs

    def require_none(self) -> None:
        """Raise UsageError where a query is under way, or might go on because its end is not recorded."""
        if self._runs:
            query_id = next(iter(self._runs))
            raise UsageError(
                f"query {query_id} is under way, and learns from the current model",
                fix=f"qkt-node queries watch {query_id}, or qkt-node queries cancel {query_id}",
            )
        if self._means.ends.unrecorded:
            raise UsageError("the end of a query is not recorded yet", fix="free space on the node's disk")

    async def cancel(self, query_id: QueryId) -> QueryState:
        """End a query that is under way; return how it ended, now or before.

        Raises UsageError for none, and where it is left to be taken up.
        """
        run = self._runs.get(query_id)
        if run is not None:
            run.cancel()
            await asyncio.wait({run.ended})
        record = self.record(query_id)
        require_ended(record)
        return record.state

    async def resume(self) -> None:
        """Go on with what the last daemon left under way, in order; what cannot go on is interrupted."""
        lost: list[tuple[QueryRecord, KeptQuery | None, QktError]] = []
        for record in self._journal.queries_under_way():
            kept = None
            try:
                kept = decode_kept(record.kept_json)
                self._require_resumable(record, kept)
            except QktError as error:
                lost.append((record, kept, error))
            else:
                log.info("query_resumed", query=record.query_id, finished=kept.outcome.finished)
                self._journal.resume_query(record.query_id)
                self._begin(kept)
        for record, kept, reason in lost:
            await self._interrupt(record, kept, reason)

    async def stop(self) -> None:
        """Leave what is under way to the next daemon; one that is being saved may take DRAIN_SECONDS."""
        for run in self._runs.values():
            run.leave()
        if self._runs:
            await asyncio.wait([run.ended for run in self._runs.values()], timeout=DRAIN_SECONDS)
        await self._means.ends.stop()

    def _begin(self, kept: KeptQuery) -> QueryRun:
        query_id = kept.outcome.query.query_id
        run = self._runs[query_id] = QueryRun(kept, self._means)
        run.ended.add_done_callback(lambda ended: self._forget(query_id, ended))
        return run

    def _forget(self, query_id: QueryId, ended: asyncio.Task[None]) -> None:
        del self._runs[query_id]
        if not ended.cancelled() and (error := ended.exception()) is not None:
            log.error("query_broken", query=query_id, exc_info=error)

    def _check(self, query: Query) -> None:
        self._require_unknown(query)
        self._means.standing.require_own()
        if len(self._runs) + self._means.ends.unrecorded >= MAX_WAITING:
            raise UsageError(f"{MAX_WAITING} queries are waiting already", fix="qkt-node queries")

    def _require_unknown(self, query: Query) -> None:
        model = self._profile.model
        known = [name for name in query.classes if name in model.local and name not in model.scarce]
        if known and not query.force:
            rest = ",".join(name for name in query.classes if name not in known)
            raise UsageError(
                f"this node already knows {', '.join(known)} well, by data of its own",
                fix=f"ask for {rest or 'other classes'}, or add --force",
            )

    def _require_resumable(self, record: QueryRecord, kept: KeptQuery) -> None:
        """Raise the QktError that says why a query cannot go on."""
        if record.attempts >= MAX_ATTEMPTS:
            raise QktError(
                f"the daemon ended {record.attempts} times in step {record.step or 'discover'} of it"
            )
        self._require_unknown(kept.outcome.query)
        adopted = self._journal.model_of_query(record.query_id) is not None
        found, needed = self._profile.model.version, kept.model_version
        if kept.outcome.finished and found != needed and not adopted:
            raise QktError(f"it began with model version {needed}, and the node has version {found} now")

    async def _interrupt(self, record: QueryRecord, kept: KeptQuery | None, reason: QktError) -> None:
        """End a query that cannot go on."""
        error = QktError(
            f"the query was interrupted, and cannot go on: {reason.message}",
            fix=command("query", "--classes", ",".join(record.classes)),
        )
        outcome = kept.outcome if kept else QueryOutcome(Query(record.query_id, record.classes, "", 0, 0.0))
        outcome.reason = error.message
        log.warning("query_interrupted", query=record.query_id, step=record.step, reason=reason.message)
        await self._means.ends.record(End(record.query_id, "interrupted", outcome.as_data(), error))
