"""The collect step of a query: all teachers at once, until each class has what it needs.

A teacher that fails is replaced by another one that showed evidence, if the class needs it; one that nobody
can replace is given time to come back. Once each class asked for has its quorum, nobody waits for those that
are slow, nor beyond the time that learning needs.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import structlog

from qkt_p2p.asking.replacing import called_back, is_needed, stand_ins
from qkt_p2p.asking.selection import alike
from qkt_p2p.asking.transfers import Transfer
from qkt_p2p.errors import (
    PEER_FAILURES,
    BudgetSpentError,
    NotTrustedError,
    PeerUnavailableError,
    ProtocolError,
)
from qkt_p2p.types import short

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping

    from qkt_p2p.asking.selection import Mask, Plan
    from qkt_p2p.asking.transfers import TransferContext
    from qkt_p2p.outcome import QueryOutcome, TeacherOutcome
    from qkt_p2p.seams import TeacherLink
    from qkt_p2p.types import ClassName, PeerId

    Check = Callable[[PeerId, Mask], Coroutine[None, None, None]]

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Collecting:
    """Collects the responses of a plan's teachers.

    `check` raises ProtocolError where a response is not usable. From `enough_at` on, a time of the event
    loop's clock, the quorum of each class is enough.
    """

    outcome: QueryOutcome
    plan: Plan
    peers: Mapping[PeerId, TeacherLink]
    context: TransferContext
    check: Check
    enough_at: float
    _running: dict[PeerId, tuple[asyncio.Task[None], Transfer]] = field(default_factory=dict)
    _asked: dict[PeerId, set[ClassName]] = field(default_factory=dict)
    _given_up: set[PeerId] = field(default_factory=set)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Return when nobody is left to wait for; an error that is no teacher's is raised."""
        self.context.collection.watch(self._note_chunk)
        for peer, mask in self.plan.asked.items():
            self._ask(peer, mask)
        try:
            while self._running:
                await self._change()
                self._take_ends()
                self._fail_over()
                await self._cut_late()
        finally:
            await give_up([task for task, _ in self._running.values()])

    def _ask(self, peer: PeerId, mask: Mask) -> None:
        teacher = self.outcome.teachers[peer]
        teacher.used, teacher.reason, teacher.missing = False, "", ()
        teacher.misbehaved = teacher.vanished = False
        request = replace(self.plan.request, classes=mask)
        twin = any(
            alike(teacher, self.outcome.teachers[other]) for other in {*self.plan.asked, *self._running}
        )
        transfer = Transfer(
            self.context,
            self.peers.get(peer),
            request,
            teacher,
            moved=self._changed.set,
            needed=lambda: self._is_needed(transfer),
            twin=twin,
        )
        task = asyncio.create_task(self._collect(transfer), name=f"teacher {short(peer)}")
        task.add_done_callback(lambda _: self._changed.set())
        self._asked.setdefault(peer, set()).update(mask)
        self._running[peer] = task, transfer

    async def _collect(self, transfer: Transfer) -> None:
        teacher = transfer.teacher
        with left_out_if_it_fails(teacher):
            try:
                await transfer.run()
            except (ProtocolError, NotTrustedError):
                # Nothing of one that lies, or is no member any more, is believed.
                raise
            except PEER_FAILURES:
                if self._is_needed(transfer):
                    self._given_up.add(teacher.peer)
                await self._use(transfer)
                raise
            await self.check(teacher.peer, teacher.classes)
            teacher.used = True

    async def _use(self, transfer: Transfer) -> None:
        """Use what arrived whole of a response that is not going to: those classes are as good as any."""
        teacher = transfer.teacher
        if self.context.collection.settle(transfer.request, teacher):
            with left_out_if_it_fails(teacher):
                await self.check(teacher.peer, teacher.classes)
                teacher.used = True

    async def _change(self) -> None:
        """Wait until a transfer ends or moves, or somebody is to be cut."""
        due = None
        if self.outcome.has_quorum:
            due = min(self.enough_at, *(transfer.due for _, transfer in self._running.values()))
        elif _now() < self.enough_at:
            due = self.enough_at
        with suppress(TimeoutError):
            async with asyncio.timeout_at(due):
                await self._changed.wait()
        self._changed.clear()

    def _note_chunk(self) -> None:
        """Look again, once the time for learning has begun: the last class may have its teachers now."""
        if _now() >= self.enough_at:
            self._changed.set()

    def _is_needed(self, transfer: Transfer) -> bool:
        """Tell whether a class would lose its quorum with a teacher, and there is time to wait for it.

        Others that are away, too, replace nobody: it may be this node that lost its network.
        """
        arrived = self.context.collection.arrived(transfer.request, transfer.teacher)
        return _now() < self.enough_at and is_needed(
            transfer.teacher.peer,
            tuple(name for name in transfer.request.classes if name not in arrived),
            outcome=self.outcome,
            plan=self.plan,
            asked=self._asked,
            running=self._there,
        )

    @property
    def _there(self) -> dict[PeerId, Mask]:
        """What is asked of those that answered when they were asked last."""
        return {
            peer: transfer.request.classes
            for peer, (_, transfer) in self._running.items()
            if not transfer.away
        }

    def _take_ends(self) -> None:
        ended = [peer for peer, (task, _) in self._running.items() if task.done()]
        for peer in ended:
            task, _ = self._running.pop(peer)
            task.result()

    def _fail_over(self) -> None:
        """Ask others where a class has lost teachers that it needs."""
        running = {peer: transfer.request.classes for peer, (_, transfer) in self._running.items()}
        for peer, mask in stand_ins(self.outcome, self.plan, asked=self._asked, running=running).items():
            teacher = self.outcome.teachers[peer]
            teacher.stood_in = True
            log.info("teacher_stands_in", peer=short(peer), classes=mask)
            self.context.collection.tell(f"{teacher.name} stands in for {', '.join(mask)}")
            self._ask(peer, mask)
        if _now() < self.enough_at:
            self._call_back()

    def _call_back(self) -> None:
        """Ask those once more, one time each, who were away when others could still replace them."""
        again = called_back(
            self.outcome, self.plan, asked=self._asked, running=self._running, there=self._there
        )
        for peer, mask in again.items():
            if peer not in self._given_up:
                self._given_up.add(peer)
                log.info("teacher_called_back", peer=short(peer), classes=mask)
                self.context.collection.tell(f"{self.outcome.teachers[peer].name} is asked once more")
                self._ask(peer, mask)

    async def _cut_late(self) -> None:
        now = _now()
        if self.outcome.has_quorum:
            late = [peer for peer, (_, transfer) in self._running.items() if transfer.due <= now]
            for peer in late:
                await self._cut(peer, "slow", self._running[peer][1].slowness())
        if now >= self.enough_at and self._suffices():
            for peer in list(self._running):
                await self._cut(peer, "deadline", "the deadline is near, and learning takes time too")
            if not self.outcome.has_quorum:
                # Some of what had arrived cannot be used.
                self._fail_over()

    def _suffices(self) -> bool:
        """Tell whether each class asked for has its quorum, with what has arrived of running transfers."""
        if self.outcome.has_quorum:
            return True
        counts = Counter(self.outcome.taught_by)
        for _, transfer in self._running.values():
            counts.update(self.context.collection.arrived(transfer.request, transfer.teacher))
        return all(counts[name] >= self.outcome.query.quorum for name in self.outcome.query.classes)

    async def _cut(self, peer: PeerId, cut: Literal["slow", "deadline"], reason: str) -> None:
        """End one transfer, unless it ends by itself just now, and use what arrived of it."""
        task, transfer = self._running[peer]
        task.cancel()
        await asyncio.wait({task})
        del self._running[peer]
        if not task.cancelled():
            task.result()
            return
        teacher = transfer.teacher
        told = note_cut(teacher, cut, reason)
        await self._use(transfer)
        if teacher.used and not teacher.missing:
            # All had come but the verdict on it.
            teacher.cut, teacher.reason = "", ""
        else:
            self.context.collection.tell(told)


async def give_up(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel what still runs, and return when all has ended, however."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def note_cut(teacher: TeacherOutcome, cut: Literal["slow", "deadline"], reason: str) -> str:
    """Note that nobody waits for a teacher any longer, and why; return that for people."""
    teacher.cut, teacher.reason = cut, f"cut, because each class has its teachers: {reason}"
    log.info("teacher_cut", peer=short(teacher.peer), cut=cut, reason=reason)
    return f"{teacher.name}: {teacher.reason}"


@contextmanager
def left_out_if_it_fails(teacher: TeacherOutcome) -> Iterator[None]:
    """Go on without a teacher that fails, and keep the reason."""
    try:
        yield
    except PEER_FAILURES as error:
        teacher.reason = error.message
        teacher.spent |= isinstance(error, BudgetSpentError)
        teacher.misbehaved |= isinstance(error, ProtocolError)
        teacher.vanished |= isinstance(error, PeerUnavailableError)
        log.warning("teacher_left_out", peer=short(teacher.peer), error=error.message)


def _now() -> float:
    return asyncio.get_running_loop().time()
