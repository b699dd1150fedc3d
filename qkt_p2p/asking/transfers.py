"""One teacher's response, through breaks: it is taken up again with only what is missing."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import structlog

from qkt_p2p.asking.retry import Attempts
from qkt_p2p.asking.stragglers import Bounds, bounds_from
from qkt_p2p.errors import PEER_FAILURES, PeerUnavailableError, QktError
from qkt_p2p.limits import MAX_CHUNKS, STRAGGLER_GRACE_SECONDS
from qkt_p2p.types import TransferRecord, short

if TYPE_CHECKING:
    from collections.abc import Callable

    from qkt_p2p.asking.collection import Collection
    from qkt_p2p.asking.retry import Patience
    from qkt_p2p.outcome import TeacherOutcome
    from qkt_p2p.seams import StudentStore, TeacherLink
    from qkt_p2p.types import TeachRequest

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Desk:
    """What all transfers of a query share; none waits beyond `end_at`, a time of the event loop's clock."""

    collection: Collection
    store: StudentStore
    end_at: float
    patience: Patience


@dataclass(slots=True)
class Transfer:
    """Gets one response; `request` names the classes, and `moved` is called when `due` changes.

    Without a `link` there is only what is here already: its peer was not reached when a query was resumed.

    `due` is when it counts as slow, by the event loop's clock: when its offer, and then its last byte, should
    have come. After a break it has the grace that every teacher has, and a busy one no more than others.
    """

    desk: Desk
    link: TeacherLink | None
    request: TeachRequest
    teacher: TeacherOutcome
    moved: Callable[[], None] = lambda: None
    due: float = field(init=False)
    bounds: Bounds = field(init=False)
    # Of the latest attempt: when it began, when its offer came, the bytes that came before it.
    _asked_at: float = field(init=False)
    _offered_at: float | None = None
    _bytes_before: int = 0

    def __post_init__(self) -> None:
        self.bounds = bounds_from(self.desk.store.transfers_of(self.teacher.peer))
        self._asked_at = _now()
        self.due = math.inf
        self._expect_by(self._asked_at + self.bounds.offer_seconds)

    async def run(self) -> None:
        """Return when the response is whole; raises one of PEER_FAILURES where the teacher is given up."""
        attempts = Attempts(self.desk.patience)
        if not self.desk.collection.holds(self.request, self.teacher):
            if self.link is None:
                raise PeerUnavailableError("it was not reached again when the query was resumed")
            while not await self._attempt(self.link, attempts):
                pass
            self._note()
        self.due = math.inf

    def slowness(self) -> str:
        """Return for people why it is slow, and note it, so that a peer that stays slow is not always cut."""
        self._note()
        known = "than it was before" if self.bounds.learned else "than teachers may be"
        if self._offered_at is None:
            return f"slower {known}: no offer after {_now() - self._asked_at:.1f} s"
        return f"slower {known}: {self._bytes:,} bytes in {_now() - self._offered_at:.1f} s"

    async def _attempt(self, link: TeacherLink, attempts: Attempts) -> bool:
        """Ask once; return whether the response is whole, after a pause where it is not."""
        teacher, before = self.teacher, self.teacher.chunks
        teacher.attempts += 1
        self._asked_at, self._offered_at, self._bytes_before = _now(), None, teacher.bytes
        request = replace(self.request, held=self._held())
        try:
            await self.desk.collection.receive(link, request, teacher, offered=self._note_offer)
        except PEER_FAILURES as error:
            pause = attempts.pause_after(error, progressed=teacher.chunks > before)
            if _now() + pause >= self.desk.end_at:
                raise
            self._tell(error, pause)
        else:
            return True
        self._expect_by(min(self.due, _now() + pause + STRAGGLER_GRACE_SECONDS))
        await asyncio.sleep(pause)
        return False

    def _held(self) -> tuple[bytes, ...]:
        """Return the digests to name: those of the teacher's own offer first, for there may be too many."""
        query_id = self.request.query_id
        offer = self.desk.store.load_offer(query_id, self.teacher.peer)
        own = {info.digest for info in offer.chunks} if offer else set()
        held = self.desk.store.held_digests(query_id)
        return tuple(sorted(held, key=lambda digest: (digest not in own, digest))[:MAX_CHUNKS])

    def _note_offer(self, missing: int) -> None:
        self._offered_at = _now()
        self._expect_by(self._offered_at + self.bounds.transfer_seconds(missing))

    def _expect_by(self, due: float) -> None:
        if self.desk.patience.cut_slow:
            self.due = due
            self.moved()

    def _note(self) -> None:
        """Keep how this went for later queries; a history that cannot be kept fails no transfer."""
        offered_at = _now() if self._offered_at is None else self._offered_at
        record = TransferRecord(offered_at - self._asked_at, self._bytes, _now() - offered_at)
        try:
            self.desk.store.note_transfer(self.teacher.peer, record)
        except QktError as error:
            log.warning("transfer_not_noted", peer=short(self.teacher.peer), error=error.message)

    @property
    def _bytes(self) -> int:
        """Bytes of the latest attempt."""
        return self.teacher.bytes - self._bytes_before

    def _tell(self, error: QktError, pause: float) -> None:
        teacher = self.teacher
        log.warning(
            "teacher_asked_again", peer=short(teacher.peer), error=error.message, pause=round(pause, 3)
        )
        held = f", {teacher.chunks} chunks are here" if teacher.chunks else ""
        self.desk.collection.tell(f"{teacher.name}: {error.message}; asked again in {pause:.1f} s{held}")


def _now() -> float:
    return asyncio.get_running_loop().time()
