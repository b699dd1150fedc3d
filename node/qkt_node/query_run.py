"""One query under way: it waits for its turn, finds peers, learns, and ends recorded, whatever happens."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from qkt_node.audience import Audience
from qkt_node.events import Ended
from qkt_node.kept import KeptQuery, encode_kept, lacks_responses
from qkt_node.query_end import End
from qkt_node.teacher_lines import TeacherLine
from qkt_node.versions import versions
from qkt_node.worker.operations import REPORT
from qkt_p2p.commands import command
from qkt_p2p.discovery import Conduct
from qkt_p2p.errors import CancelledError, NotRunningError, QktError, UpdateRefusedError
from qkt_p2p.limits import RETURN_SECONDS, SETTLE_SECONDS
from qkt_p2p.outcome import QueryOutcome, TeacherOutcome
from qkt_p2p.types import Progress

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection
    from pathlib import Path

    from qkt_node.events import QueryEvent
    from qkt_node.profile import Profile
    from qkt_node.query_end import Ends
    from qkt_node.worker.client import Worker
    from qkt_p2p.discovery import Contacts
    from qkt_p2p.identity.standing import Standing
    from qkt_p2p.seams import ReportProgress, TeacherLink
    from qkt_p2p.store.journal import Journal
    from qkt_p2p.store.records import QueryState
    from qkt_p2p.student import Student
    from qkt_p2p.transport.client import PeerClient
    from qkt_p2p.types import ClassName

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Means:
    """What the queries of a daemon share; who holds `turn` runs."""

    student: Student
    worker: Worker
    journal: Journal
    contacts: Contacts[PeerClient]
    profile: Profile
    models: Path
    standing: Standing
    ends: Ends
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class QueryRun:
    """A query from its beginning, or from its last finished step, to its end: learning, then a report.

    Both may be given up at any time; the recording of the end never is.
    """

    def __init__(self, kept: KeptQuery, means: Means) -> None:
        self._outcome = kept.outcome
        self._query = kept.outcome.query
        self._means = means
        self._left_for_later = False
        self._audience = Audience(self._query.query_id)
        self._report: asyncio.Task[str] | None = None
        self._learning = asyncio.create_task(self._learn(), name=f"query {self._query.query_id}")
        self.ended = asyncio.create_task(self._end())

    def watch(self) -> AsyncGenerator[QueryEvent]:
        """Return the query's events from now on, up to Ended."""
        return self._audience.watch()

    def cancel(self) -> bool:
        """End what can be given up; returns whether there was anything."""
        return any(part.cancel() for part in (self._learning, self._report) if part is not None)

    def leave(self) -> None:
        """Give up here what the next daemon goes on with; a query that was cancelled stays cancelled."""
        self._left_for_later = not self._learning.cancelling()
        self.cancel()

    async def _learn(self) -> None:
        """Wait for this query's turn, find the peers that are still needed, and learn."""
        means = self._means
        if means.turn.locked():
            self._audience.tell(Progress("discover", 0, 0, "waiting for an earlier query to end"))
        async with means.turn:
            means.journal.begin_attempt(self._query.query_id)
            # The worker loads its libraries while the peers are asked.
            await means.worker.warm()
            if await asyncio.to_thread(lacks_responses, self._outcome, means.journal):
                # With the same seed: what is still there is not sent again.
                log.warning("responses_lost", query=self._query.query_id)
                self._outcome = QueryOutcome(self._query)
            if "collect" in self._outcome.finished:
                await self._take_steps([])
            else:
                await self._learn_from_peers()

    async def _learn_from_peers(self) -> None:
        # It may have expired while the query waited; then there is no peer to wait for.
        self._means.standing.require_own()
        outcome, contacts = self._outcome, self._means.contacts
        progress, started = self._recorder(), time.monotonic()
        progress(Progress("discover", 0, 0, "started"))
        # After a power cut the teachers start too.
        before = [teacher.peer for teacher in outcome.teachers.values() if not teacher.reason]
        await contacts.meet(RETURN_SECONDS if before else SETTLE_SECONDS, before)
        async with contacts.gathered(SETTLE_SECONDS) as found:
            links: list[tuple[str, TeacherLink]] = [
                (member.description.node_name, TeacherLine(member.peer, found.again, contacts.hear))
                for member, _ in found.reached
            ]
            if "probe" not in outcome.finished:
                everybody = [(member, "") for member, _ in found.reached] + found.missed
                outcome.teachers = {
                    member.peer: TeacherOutcome(member.peer, member.description.node_name, reason=reason)
                    for member, reason in everybody
                }
            outcome.unreached = found.failures
            looked = outcome.seconds.get("discover", 0.0) + time.monotonic() - started
            outcome.seconds["discover"] = round(looked, 3)
            progress(_discovered(len(links), len(found.missed)))
            self._keep(outcome, step_finished=False)
            try:
                known = {name for member, _ in found.reached for name in member.description.known_classes}
                await self._take_steps(links, known)
            finally:
                self._judge()

    async def _take_steps(
        self, links: list[tuple[str, TeacherLink]], others_know: Collection[ClassName] = ()
    ) -> None:
        means = self._means
        await means.student.learn(
            self._outcome,
            means.profile.model,
            links=links,
            progress=self._recorder(),
            keep=self._keep,
            others_know=others_know,
        )

    def _judge(self) -> None:
        """Have peers that broke the protocol or went away left alone, and forgive those that taught."""
        contacts = self._means.contacts
        for teacher in self._outcome.teachers.values():
            if teacher.used and not teacher.vanished:
                contacts.judge(teacher.peer, Conduct.TAUGHT)
            elif teacher.misbehaved:
                contacts.judge(teacher.peer, Conduct.BROKE_PROTOCOL)
            elif teacher.vanished and teacher.attempts:
                contacts.judge(teacher.peer, Conduct.WENT_AWAY)

    def _recorder(self) -> ReportProgress:
        """Return a progress callback that also records each step that begins."""
        steps: set[str] = set()

        def record(progress: Progress) -> None:
            self._audience.tell(progress)
            if progress.step not in steps:
                steps.add(progress.step)
                try:
                    self._means.journal.set_query_step(self._query.query_id, progress.step)
                except QktError as error:
                    log.warning("step_not_recorded", query=self._query.query_id, error=error.message)

        return record

    def _keep(self, outcome: QueryOutcome, *, step_finished: bool = True) -> None:
        """Keep what a daemon needs to go on from here; where the disk fails, it goes on from further back."""
        kept = KeptQuery(outcome, self._means.profile.model.version)
        try:
            self._means.journal.keep_query(
                self._query.query_id, encode_kept(kept), step_finished=step_finished
            )
        except QktError as error:
            log.warning("step_not_kept", query=self._query.query_id, error=error.message)

    async def _end(self) -> None:
        """See the query to its end, whatever that is, record it and tell it."""
        await asyncio.wait({self._learning})
        state, error = self._ending()
        # Why an update is refused was said when it was.
        if error is not None and not (state == "refused" and self._outcome.reason):
            self._outcome.reason = error.message
        data = {**self._outcome.as_data(), "node_name": self._means.profile.name, "versions": versions()}
        try:
            if state in {"accepted", "refused", "failed"}:
                work = self._means.worker.call(REPORT, data, self._audience.tell)
                self._report = asyncio.create_task(work)
                await asyncio.wait({self._report})
                data["report"] = self._report_path(self._report)
            if state == "running":
                self._forgive_attempts()
            else:
                error = await self._means.ends.record(End(self._query.query_id, state, data, error))
        finally:
            self._audience.tell(Ended(data, error))

    def _ending(self) -> tuple[QueryState, QktError | None]:
        """Return how the query ended, and why it was not accepted; one left for later is running."""
        try:
            self._learning.result()
        except (asyncio.CancelledError, QktError) as error:
            return self._broken_off(error)
        except Exception as error:
            log.exception("query_failed", query=self._query.query_id)
            return "failed", QktError(f"the query failed: {error!r}", fix="see the daemon's log")
        if self._outcome.outcome == "refused":
            message = f"the update was refused: {self._outcome.reason}"
            return "refused", UpdateRefusedError(message, fix="qkt-node models list")
        return self._outcome.outcome, None

    def _broken_off(self, cause: asyncio.CancelledError | QktError) -> tuple[QueryState, QktError]:
        query_id = self._query.query_id
        if self._left_for_later:
            if isinstance(cause, QktError):
                # Its adoption was cut off with the worker: the next daemon adopts, or fails for good.
                log.warning("query_cut_off", query=query_id, reason=cause.message)
            home = self._means.models.parent
            return "running", NotRunningError(
                f"the daemon stops; query {query_id} goes on when it is started again",
                fix=f"{command('start', '--home', home)}, "
                f"then {command('queries', 'watch', query_id, '--home', home)}",
            )
        if isinstance(cause, QktError):
            return "refused" if isinstance(cause, UpdateRefusedError) else "failed", cause
        fix = f"qkt-node queries show {query_id}"
        return "cancelled", CancelledError(f"query {query_id} was cancelled", fix=fix)

    def _forgive_attempts(self) -> None:
        try:
            self._means.journal.forgive_attempts(self._query.query_id)
        except QktError as error:
            # One attempt more is counted. Where the drain is over the journal is closed already.
            log.warning("attempts_not_forgiven", query=self._query.query_id, error=error.message)

    def _report_path(self, report: asyncio.Task[str]) -> str:
        """Return the report's path, "" where it could not be written or the owner did not wait for it."""
        try:
            return report.result()
        except asyncio.CancelledError:
            # What the query changed stays; only the report is given up.
            log.info("report_given_up", query=self._query.query_id)
        except QktError as error:
            log.error("report_failed", query=self._query.query_id, error=error.message)
        return ""


def _discovered(reached: int, missed: int) -> Progress:
    told = f"{reached} live peers" + (f", {missed} more not reached" if missed else "")
    return Progress("discover", reached, reached + missed, told)
