"""Collects masked synthetic responses: only what was asked for may be offered, and only that is kept."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING

from qkt_p2p.asking.claims import Claims
from qkt_p2p.asking.expected import Expected, check_chunk, check_total, checked_offer, digest_of
from qkt_p2p.asking.keeping import Desk, keeping, on_a_thread
from qkt_p2p.errors import PeerRefusedError, ProtocolError
from qkt_p2p.limits import CHUNKS_UNDER_WAY, MAX_WAIT_SECONDS, MAX_WAITS
from qkt_p2p.types import Progress, TeachWait

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from qkt_p2p.outcome import QueryOutcome, TeacherOutcome
    from qkt_p2p.seams import ReportProgress, ResponseStore, TeacherLink
    from qkt_p2p.types import Chunk, ChunkInfo, ClassName, PeerId, TeachOffer, TeachPart, TeachRequest


class Collection:
    """The responses to one query; `progress` is told of the bytes of all teachers together."""

    def __init__(self, store: ResponseStore, progress: ReportProgress) -> None:
        self._store = store
        self._progress = progress
        self._received: dict[PeerId, int] = {}
        self._missing: dict[PeerId, int] = {}
        self._came: Callable[[], None] = lambda: None
        self.claims = Claims()

    def watch(self, came: Callable[[], None]) -> None:
        """Have `came` called after every chunk that is kept."""
        self._came = came

    async def receive(
        self,
        link: TeacherLink,
        request: TeachRequest,
        teacher: TeacherOutcome,
        *,
        offered: Callable[[Sequence[ChunkInfo]], bool] = lambda coming: True,
    ) -> bool:
        """Keep one response and note in `teacher` what it holds; return whether all came that was to come.

        `offered` is told of the chunks to come, and says whether they are wanted: if not, the stream ends.
        Raises ProtocolError at the first part that is not what the protocol, the request or the offer
        says, and what the link raises. What was kept by then stays.
        """
        async with aclosing(link.teach(request)) as parts:
            offer = checked_offer(await self._first(parts, teacher), request)
            expected = Expected(offer, self._begin(offer, request, teacher))
            save_offer = self._saving_offer(offer, request, teacher)
            if not offered([info for at, info in enumerate(offer.chunks) if at in expected.missing]):
                # Before the disk: what is sent meanwhile comes for nothing.
                await parts.aclose()
                await on_a_thread(save_offer)
                self._missing[teacher.peer] = 0
                return False
            desk = Desk(save_offer, partial(check_chunk, offer=offer), self._saving(offer, request, teacher))
            count = partial(self._count, offer=offer, teacher=teacher)
            async with keeping(desk, count, CHUNKS_UNDER_WAY) as kept:
                async for part in parts:
                    if (chunk := expected.next(part)) is not None:
                        await kept.put(chunk)
        expected.require_whole()
        teacher.digest = digest_of(offer)
        return True

    async def receive_offer(self, link: TeacherLink, request: TeachRequest, teacher: TeacherOutcome) -> None:
        """Keep an offer of which no chunk is wanted yet; raises as `receive` does."""
        async with aclosing(link.teach(request)) as parts:
            offer = checked_offer(await self._first(parts, teacher), request)
            expected = Expected(offer, set())
            async for part in parts:
                expected.next(part)
        await on_a_thread(self._saving_offer(offer, request, teacher))

    async def recall(self, outcome: QueryOutcome) -> None:
        """Count what teachers sent before this process was started anew, whatever they offer by now.

        For the beginning of a collection: here the store reads what it holds.
        """
        query_id = outcome.query.query_id
        brought = await asyncio.to_thread(self._store.held_by_source, query_id)
        for teacher in outcome.teachers.values():
            teacher.chunks, teacher.bytes = brought.get(teacher.peer, (0, 0))
            outcome.bytes_received += teacher.bytes

    def holds(self, request: TeachRequest, teacher: TeacherOutcome) -> bool:
        """Tell whether all that `request` would bring is there already, and note it in `teacher` if so."""
        offer = self._store.load_offer(request.query_id, teacher.peer)
        if offer is None or (offer.medium, set(offer.classes)) != (request.medium, set(request.classes)):
            return False
        return self.completed(request, teacher)

    def completed(self, request: TeachRequest, teacher: TeacherOutcome) -> bool:
        """Tell whether all is there that was offered last, and note it in `teacher` if so."""
        offer = self._store.load_offer(request.query_id, teacher.peer)
        if offer is None:
            return False
        if not self._store.held_digests(request.query_id).issuperset(info.digest for info in offer.chunks):
            return False
        _note_offer(request, teacher, offer, held=offer.chunks)
        teacher.digest = digest_of(offer)
        return True

    def settle(self, request: TeachRequest, teacher: TeacherOutcome) -> bool:
        """Take what arrived of the classes of `request` for the response; return whether there is any."""
        offer, held = self._offer_and_held(request, teacher)
        classes = offer.arrived(held) if offer is not None else ()
        if offer is None or not classes:
            return False
        part = offer.only(classes)
        teacher.classes = classes
        teacher.missing = tuple(name for name in request.classes if name not in classes)
        teacher.samples = sum(info.samples for info in part.chunks)
        teacher.digest = digest_of(part)
        return True

    def arrived(self, request: TeachRequest, teacher: TeacherOutcome) -> tuple[ClassName, ...]:
        """Return the classes of `request` that `settle` would take."""
        offer, held = self._offer_and_held(request, teacher)
        return offer.arrived(held) if offer is not None else ()

    def _offer_and_held(
        self, request: TeachRequest, teacher: TeacherOutcome
    ) -> tuple[TeachOffer | None, set[bytes]]:
        offer = self._store.load_offer(request.query_id, teacher.peer)
        if offer is None or offer.medium != request.medium:
            return None, set()
        return offer, self._store.held_digests(request.query_id)

    def tell(self, message: str) -> None:
        """Say how the collection goes."""
        received = sum(self._received.values())
        self._progress(Progress("collect", received, received + sum(self._missing.values()), message))

    async def _first(self, parts: AsyncGenerator[TeachPart], teacher: TeacherOutcome) -> TeachPart | None:
        """Return the first part that is no sign of life; a teacher cannot wait for ever."""
        time, waits = asyncio.get_running_loop().time, 0
        began = time()
        while isinstance(part := await anext(parts, None), TeachWait):
            waits += 1
            if waits > MAX_WAITS:
                raise ProtocolError(f"it said {waits} times that its answer is on its way")
            if time() - began > MAX_WAIT_SECONDS:
                raise PeerRefusedError(f"its answer was still on its way after {MAX_WAIT_SECONDS:g} s")
            waiting = f"waits, {part.ahead} before it" if part.ahead else "makes its answer"
            self.tell(f"{teacher.name} {waiting}")
        return part

    def _begin(self, offer: TeachOffer, request: TeachRequest, teacher: TeacherOutcome) -> set[int]:
        """Note what is offered, and return the positions of what is to come.

        Raises ProtocolError where that, with what came of earlier offers, is more than the disk is for.
        """
        held = set(request.held)
        missing = {at for at, info in enumerate(offer.chunks) if info.digest not in held}
        check_total((teacher.chunks, teacher.bytes), [offer.chunks[at] for at in missing])
        _note_offer(
            request, teacher, offer, held=[info for at, info in enumerate(offer.chunks) if at not in missing]
        )
        self._missing[teacher.peer] = sum(offer.chunks[at].size for at in missing)
        return missing

    def _saving_offer(
        self, offer: TeachOffer, request: TeachRequest, teacher: TeacherOutcome
    ) -> Callable[[], None]:
        return partial(self._store.save_offer, request.query_id, teacher.peer, offer)

    def _saving(
        self, offer: TeachOffer, request: TeachRequest, teacher: TeacherOutcome
    ) -> Callable[[Sequence[Chunk]], None]:
        def save(chunks: Sequence[Chunk]) -> None:
            checked = [(offer.chunks[chunk.index].digest, chunk) for chunk in chunks]
            self._store.save_chunks(request.query_id, teacher.peer, checked)

        return save

    def _count(self, chunk: Chunk, offer: TeachOffer, teacher: TeacherOutcome) -> None:
        info = offer.chunks[chunk.index]
        self.claims.arrived(info.digest)
        teacher.samples += info.samples
        teacher.chunks += 1
        teacher.bytes += info.size
        teacher.bytes_saved += info.saved
        self._received[teacher.peer] = self._received.get(teacher.peer, 0) + info.size
        self._missing[teacher.peer] -= info.size
        self.tell(f"from {teacher.name}")
        self._came()


def _note_offer(
    request: TeachRequest, teacher: TeacherOutcome, offer: TeachOffer, *, held: Sequence[ChunkInfo]
) -> None:
    """Note what a teacher offers, of which `held` is here already."""
    teacher.classes, teacher.encoding = offer.classes, offer.encoding
    teacher.epsilon = offer.epsilon
    if offer.epsilon:
        teacher.withheld = tuple(name for name in request.classes if name not in offer.classes)
    teacher.samples = sum(info.samples for info in held)
    teacher.held_chunks, teacher.held_bytes = len(held), sum(info.size for info in held)
