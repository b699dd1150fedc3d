"""One teacher's response, through breaks: it is taken up again with only what is missing."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import structlog

from qkt_p2p.asking.retry import Attempts
from qkt_p2p.asking.stragglers import Bounds, bounds_from
from qkt_p2p.errors import PEER_FAILURES, PeerUnavailableError, ProtocolError, QktError
from qkt_p2p.limits import ATTEMPTS, MAX_CHUNKS, STRAGGLER_GRACE_SECONDS
from qkt_p2p.types import TransferRecord, short

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence, Set

    from qkt_p2p.asking.collection import Collection
    from qkt_p2p.asking.retry import Patience
    from qkt_p2p.outcome import TeacherOutcome
    from qkt_p2p.seams import StudentStore, TeacherLink
    from qkt_p2p.types import ChunkInfo, TeachRequest

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TransferContext:
    """What all transfers of a query share; none waits beyond `end_at`, a time of the event loop's clock."""

    collection: Collection
    store: StudentStore
    end_at: float
    patience: Patience


@dataclass(slots=True)
class Transfer:
    """Gets one response; `request` names the classes, and `moved` is called when `due` or `away` changes.

    While it is `away`, the teacher did not answer when it was asked last; `needed` tells whether nobody could
    replace it.
    Where there is a `twin`, a teacher that seems to hold the same model, its offer is asked for first.

    Without a `link` there is only what is here already: its peer was not reached when a query was resumed.

    `due` is when it counts as slow, by the event loop's clock: when its offer, and then its last byte, should
    have come. After a break it has the grace that every teacher has, and a busy one no more than others.
    """

    context: TransferContext
    link: TeacherLink | None
    request: TeachRequest
    teacher: TeacherOutcome
    moved: Callable[[], None] = lambda: None
    needed: Callable[[], bool] = lambda: False
    twin: bool = False
    away: bool = field(init=False, default=False)
    due: float = field(init=False)
    bounds: Bounds = field(init=False)
    # Of the latest attempt: when it began, when the offer that is streamed came, the bytes that came before.
    _asked_at: float = field(init=False)
    _offered_at: float | None = None
    _bytes_before: int = 0
    # Until its first offer: whoever is asked again has its answer at hand.
    _offer_seconds: float | None = None
    _ended: int = 0
    _limit: asyncio.Timeout | None = None

    def __post_init__(self) -> None:
        self.bounds = bounds_from(self.context.store.transfers_of(self.teacher.peer))
        self._asked_at = _now()
        self.due = math.inf
        self._expect_by(self._asked_at + self.bounds.offer_seconds)

    async def run(self) -> None:
        """Return when the response is whole; raises one of PEER_FAILURES where the teacher is given up."""
        attempts = Attempts(self.context.patience, clock=_now)
        if not self.context.collection.holds(self.request, self.teacher):
            if self.link is None:
                raise PeerUnavailableError("it was not reached again when the query was resumed")
            while not await self._attempt(self.link, attempts):
                pass
        self.due = math.inf

    def give_way(self) -> None:
        """End the stream under way: others wait for its chunks, and it is slow."""
        if self._limit is not None:
            self._limit.reschedule(_now())

    def slowness(self) -> str:
        """Return for people why it is slow, and note it, so that a peer that stays slow is not always cut."""
        self._note()
        known = "than it was before" if self.bounds.learned else "than teachers may be"
        if self._offered_at is None:
            return f"slower {known}: no offer after {_now() - self._asked_at:.1f} s"
        return f"slower {known}: {self._bytes:,} bytes in {_now() - self._offered_at:.1f} s"

    async def _attempt(self, link: TeacherLink, attempts: Attempts) -> bool:
        """Ask once; return whether the response is whole, after a pause where it is not."""
        collection, before = self.context.collection, self.teacher.chunks
        missing = self._missing()
        others = collection.claims.claim(self, missing)
        if others and others == missing:
            await self._leave_to(others)
            return collection.completed(self.request, self.teacher)
        if self._left_to_others and not missing and collection.completed(self.request, self.teacher):
            # They have brought it by now.
            return True
        self._asked_at, self._offered_at, self._bytes_before = _now(), None, self.teacher.bytes
        try:
            whole = await self._receive(link, others)
        except PEER_FAILURES as error:
            pause = self._pause_after(error, attempts, progressed=self.teacher.chunks > before)
        else:
            if whole and others:
                await self._leave_to(others)
                whole = not self._missing()
            return whole
        finally:
            collection.claims.release(self)
        await asyncio.sleep(pause)
        return False

    def _pause_after(self, error: QktError, attempts: Attempts, *, progressed: bool) -> float:
        """Return the seconds to wait before the next attempt; raises `error` where there is to be none."""
        self.away, needed = isinstance(error, PeerUnavailableError), self.needed()
        pause = attempts.pause_after(error, progressed=progressed, needed=needed)
        if _now() + pause >= self.context.end_at:
            raise error
        again = _now() + pause + STRAGGLER_GRACE_SECONDS
        # Where nobody could replace it so far, it need not be back before others that are away.
        self._expect_by(again if self.away and needed else min(self.due, again))
        self._tell(error, pause)
        return pause

    async def _receive(self, link: TeacherLink, others: Set[bytes]) -> bool:
        """Take one stream, without chunks that `others` bring; return whether it brought all it was to."""
        collection, teacher = self.context.collection, self.teacher
        request = replace(self.request, held=self._held(others))
        if self.twin and not self._offered:
            await self._receive_offer(link, replace(request, offer_only=True))
            return False
        teacher.attempts += 1
        try:
            async with asyncio.timeout(None) as self._limit:
                whole = await collection.receive(link, request, teacher, offered=self._note_offer)
        except TimeoutError as error:
            raise PeerUnavailableError("it is slow, and others send the same") from error
        finally:
            self._limit = None
        if whole and self._bytes:
            # At once: what others bring later is no part of it.
            self._note()
        self._ended += not whole
        if self._ended > ATTEMPTS:
            raise ProtocolError(f"{ATTEMPTS} times it offered something else that others send")
        return whole

    async def _receive_offer(self, link: TeacherLink, request: TeachRequest) -> None:
        """Take the offer alone; where that fails it counts as an attempt, otherwise the one to come does."""
        try:
            await self.context.collection.receive_offer(link, request, self.teacher)
        except PEER_FAILURES:
            self.teacher.attempts += 1
            raise
        self._hear_offer()

    async def _leave_to(self, others: Set[bytes]) -> None:
        """Wait until others have brought chunks or given them up; nobody is slow meanwhile."""
        self.due = math.inf
        self.context.collection.tell(f"{self.teacher.name} need not send what another teacher sends")
        await self.context.collection.claims.settled(others)
        self._expect_by(_now() + STRAGGLER_GRACE_SECONDS)

    def _missing(self) -> frozenset[bytes]:
        """Return the digests that this teacher offered for the request and that are not here."""
        query_id = self.request.query_id
        offer = self.context.store.load_offer(query_id, self.teacher.peer) if self._offered else None
        if offer is None:
            return frozenset()
        return frozenset(info.digest for info in offer.chunks) - self.context.store.held_digests(query_id)

    def _held(self, others: Set[bytes]) -> tuple[bytes, ...]:
        """Return the digests to name: those of the teacher's own offer first, for there may be too many."""
        query_id = self.request.query_id
        offer = self.context.store.load_offer(query_id, self.teacher.peer)
        own = {info.digest for info in offer.chunks} if offer else set()
        held = self.context.store.held_digests(query_id) | others
        return tuple(sorted(held, key=lambda digest: (digest not in own, digest))[:MAX_CHUNKS])

    def _note_offer(self, coming: Sequence[ChunkInfo]) -> bool:
        """Note that the offer came; return whether to go on, which is not so where others bring the same."""
        self._hear_offer()
        if self.context.collection.claims.claim(self, {info.digest for info in coming}):
            return False
        self._offered_at = _now()
        self._expect_by(self._offered_at + self.bounds.transfer_seconds(sum(info.size for info in coming)))
        return True

    def _hear_offer(self) -> None:
        self.away = False
        if self._offer_seconds is None:
            self._offer_seconds = _now() - self._asked_at

    def _expect_by(self, due: float) -> None:
        if self.context.patience.cut_slow:
            self.due = due
        self.moved()

    def _note(self) -> None:
        """Keep how this went for later queries; a history that cannot be kept fails no transfer."""
        if self._offered_at is None or self._offer_seconds is None:
            record = TransferRecord(_now() - self._asked_at, self._bytes, 0.0)
        else:
            record = TransferRecord(self._offer_seconds, self._bytes, _now() - self._offered_at)
        try:
            self.context.store.note_transfer(self.teacher.peer, record)
        except QktError as error:
            log.warning("transfer_not_noted", peer=short(self.teacher.peer), error=error.message)

    @property
    def _offered(self) -> bool:
        """Whether it made an offer."""
        return self._offer_seconds is not None

    @property
    def _left_to_others(self) -> bool:
        """Whether it made an offer, and the latest attempt went no further."""
        return self._offered and self._offered_at is None

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
        self.context.collection.tell(f"{teacher.name}: {error.message}; asked again in {pause:.1f} s{held}")


def _now() -> float:
    return asyncio.get_running_loop().time()
