"""Runs this node's queries, one at a time, and tells whoever watches how they go."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import structlog

from qkt_node.asking import query_from
from qkt_node.events import Ended, Started
from qkt_node.model_files import remove_leftovers
from qkt_node.teacher_lines import TeacherLine
from qkt_node.versions import versions
from qkt_node.worker.operations import REPORT
from qkt_p2p.discovery import Conduct
from qkt_p2p.errors import CancelledError, QktError, UpdateRefusedError, UsageError
from qkt_p2p.limits import DRAIN_SECONDS, SETTLE_SECONDS
from qkt_p2p.outcome import QueryOutcome, TeacherOutcome
from qkt_p2p.types import Progress

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from qkt_node.events import QueryEvent, QueryOptions
    from qkt_node.profile import Profile
    from qkt_node.settings import NodeConfig
    from qkt_node.worker.client import Worker
    from qkt_p2p.discovery import Contacts
    from qkt_p2p.seams import TeacherLink
    from qkt_p2p.store.journal import Journal
    from qkt_p2p.store.records import QueryState
    from qkt_p2p.student import Student
    from qkt_p2p.transport.client import PeerClient
    from qkt_p2p.types import Query, QueryId

    Tell = Callable[[QueryEvent], None]

log = structlog.get_logger(__name__)

MAX_WAITING: Final = 64
"""Queries that one node takes on at once; they run one after the other."""


@dataclass(slots=True)
class _Running:
    """A query under way: `learning` may be cancelled at any time, and `report`; `ended` never is."""

    learning: asyncio.Task[None]
    report: asyncio.Task[str] | None = None
    ended: asyncio.Task[None] | None = None

    def cancel(self) -> bool:
        """End what can be given up; returns whether there was anything."""
        return any(part.cancel() for part in (self.learning, self.report) if part is not None)


class Queries:
    """The queries of one daemon."""

    def __init__(
        self,
        student: Student,
        worker: Worker,
        *,
        config: NodeConfig,
        journal: Journal,
        contacts: Contacts[PeerClient],
        profile: Profile,
        models: Path,
    ) -> None:
        self._config = config
        self._student = student
        self._worker = worker
        self._journal = journal
        self._contacts = contacts
        self._profile = profile
        self._models = models
        self._turn = asyncio.Lock()
        self._running: dict[QueryId, _Running] = {}

    def start(self, options: QueryOptions) -> AsyncIterator[QueryEvent]:
        """Begin a query and return its events, from Started to Ended; raises UsageError."""
        query = query_from(options, self._config)
        self._check(query)
        self._journal.start_query(query, time.time())
        events: asyncio.Queue[QueryEvent] = asyncio.Queue()
        events.put_nowait(Started(query.query_id))
        outcome, tell = QueryOutcome(query), events.put_nowait
        running = _Running(asyncio.create_task(self._learn(outcome, tell), name=f"query {query.query_id}"))
        running.ended = asyncio.create_task(self._run(running, outcome, tell=tell))
        running.ended.add_done_callback(lambda ended: self._forget(query.query_id, ended))
        self._running[query.query_id] = running
        return _until_ended(events)

    def cancel(self, query_id: QueryId) -> bool:
        """Cancel a running query; returns whether there was one."""
        running = self._running.get(query_id)
        return running is not None and running.cancel()

    async def stop(self) -> None:
        """Cancel all queries and wait for their end; one that is being saved may take DRAIN_SECONDS."""
        for running in self._running.values():
            running.cancel()
        ends = [running.ended for running in self._running.values() if running.ended is not None]
        if ends:
            await asyncio.wait(ends, timeout=DRAIN_SECONDS)

    def _forget(self, query_id: QueryId, ended: asyncio.Task[None]) -> None:
        del self._running[query_id]
        if not ended.cancelled() and (error := ended.exception()) is not None:
            log.error("query_broken", query=query_id, exc_info=error)

    def _check(self, query: Query) -> None:
        model = self._profile.model
        known = [name for name in query.classes if name in model.local and name not in model.scarce]
        if known and not query.force:
            rest = ",".join(name for name in query.classes if name not in known)
            raise UsageError(
                f"this node already knows {', '.join(known)} well, by data of its own",
                fix=f"ask for {rest or 'other classes'}, or add --force",
            )
        if len(self._running) >= MAX_WAITING:
            raise UsageError(f"{MAX_WAITING} queries are waiting already", fix="qkt-node queries")

    async def _run(self, running: _Running, outcome: QueryOutcome, *, tell: Tell) -> None:
        """See one query to its end, whatever that is, record it and tell it."""
        await asyncio.wait({running.learning})
        state, error = _ending(running.learning, outcome)
        if error is not None:
            outcome.reason = error.message
        data = {**outcome.as_data(), "node_name": self._profile.name, "versions": versions()}
        try:
            if state != "cancelled":
                running.report = asyncio.create_task(self._worker.call(REPORT, data, tell))
                await asyncio.wait({running.report})
                data["report"] = _report_path(running.report, outcome)
            self._record(outcome, state, data)
        finally:
            tell(Ended(data, error))

    async def _learn(self, outcome: QueryOutcome, tell: Tell) -> None:
        """Wait for this query's turn, find the peers, and learn."""
        if self._turn.locked():
            tell(Progress("discover", 0, 0, "waiting for an earlier query to end"))
        async with self._turn:
            progress = self._recorder(outcome.query.query_id, tell)
            started = time.monotonic()
            progress(Progress("discover", 0, 0, "started"))
            # The worker loads its libraries while the peers are asked.
            await self._worker.warm()
            await self._contacts.meet(SETTLE_SECONDS)
            async with self._contacts.gathered(SETTLE_SECONDS) as found:
                links: list[tuple[str, TeacherLink]] = [
                    (member.description.node_name, TeacherLine(member.peer, found.again))
                    for member, _ in found.reached
                ]
                outcome.teachers = {
                    member.peer: TeacherOutcome(member.peer, member.description.node_name, reason=reason)
                    for member, reason in found.missed
                }
                outcome.seconds["discover"] = round(time.monotonic() - started, 3)
                progress(_discovered(len(links), len(found.missed)))
                try:
                    await self._student.learn(outcome, self._profile.model, links=links, progress=progress)
                finally:
                    self._judge(outcome)

    def _judge(self, outcome: QueryOutcome) -> None:
        """Have peers that broke the protocol or went away left alone, and forgive those that taught."""
        for teacher in outcome.teachers.values():
            if teacher.used:
                self._contacts.judge(teacher.peer, Conduct.TAUGHT)
            elif teacher.misbehaved:
                self._contacts.judge(teacher.peer, Conduct.BROKE_PROTOCOL)
            elif teacher.vanished and teacher.attempts:
                self._contacts.judge(teacher.peer, Conduct.WENT_AWAY)

    def _recorder(self, query_id: QueryId, tell: Tell) -> Callable[[Progress], None]:
        """Return a progress callback that also records each step that begins."""
        steps: set[str] = set()

        def record(progress: Progress) -> None:
            tell(progress)
            if progress.step not in steps:
                steps.add(progress.step)
                try:
                    self._journal.set_query_step(query_id, progress.step)
                except QktError as error:
                    log.warning("step_not_recorded", query=query_id, error=error.message)

        return record

    def _record(self, outcome: QueryOutcome, state: QueryState, data: dict[str, Any]) -> None:
        """Record how a query ended, and forget what was received for it."""
        query_id = outcome.query.query_id
        try:
            self._journal.finish_query(query_id, state, json.dumps(data))
            self._journal.drop_responses(query_id)
        except QktError as error:
            log.error("end_not_recorded", query=query_id, error=error.message)
        remove_leftovers(self._models, query_id)
        log.info("query_ended", query=query_id, state=state, reason=outcome.reason)


def _discovered(reached: int, missed: int) -> Progress:
    told = f"{reached} live peers" + (f", {missed} more not reached" if missed else "")
    return Progress("discover", reached, reached + missed, told)


def _ending(learning: asyncio.Task[None], outcome: QueryOutcome) -> tuple[QueryState, QktError | None]:
    """Return how a query ended, and the error where it was not accepted."""
    query_id = outcome.query.query_id
    try:
        learning.result()
    except asyncio.CancelledError:
        fix = f"qkt-node queries show {query_id}"
        return "cancelled", CancelledError(f"query {query_id} was cancelled", fix=fix)
    except QktError as error:
        return "failed", error
    except Exception as error:
        log.exception("query_failed", query=query_id)
        return "failed", QktError(f"the query failed: {error!r}", fix="see the daemon's log")
    if outcome.outcome == "refused":
        message = f"the update was refused: {outcome.reason}"
        return "refused", UpdateRefusedError(message, fix="qkt-node models list")
    return outcome.outcome, None


def _report_path(report: asyncio.Task[str], outcome: QueryOutcome) -> str:
    """Return the path of the report, "" where it could not be written or the owner did not wait for it."""
    query_id = outcome.query.query_id
    try:
        return report.result()
    except asyncio.CancelledError:
        # What the query changed stays; only the report is given up.
        log.info("report_given_up", query=query_id)
    except QktError as error:
        log.error("report_failed", query=query_id, error=error.message)
    return ""


async def _until_ended(events: asyncio.Queue[QueryEvent]) -> AsyncIterator[QueryEvent]:
    while True:
        event = await events.get()
        yield event
        if isinstance(event, Ended):
            return
