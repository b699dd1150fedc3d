"""Collects masked synthetic responses: only what was asked for may be offered, and only that is kept."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from qkt_p2p.asking.arrivals import Arrivals
from qkt_p2p.asking.claims import Claims
from qkt_p2p.asking.expected import Expected, check_chunk, checked_offer, digest_of
from qkt_p2p.asking.keeping import Keeping, on_a_thread
from qkt_p2p.errors import PeerRefusedError, ProtocolError
from qkt_p2p.limits import CHUNKS_UNDER_WAY, MAX_WAIT_SECONDS, MAX_WAITS
from qkt_p2p.types import Progress, TeachWait

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
        async with Arrivals(link.teach(request), CHUNKS_UNDER_WAY) as arrivals:
            offer = checked_offer(await self._first(arrivals, teacher), request)
            expected = Expected(offer, self._begin(offer, request, teacher))
            if not offered([info for at, info in enumerate(offer.chunks) if at in expected.missing]):
                # Before the disk: what is sent meanwhile comes for nothing.
                await arrivals.stop()
                await self._save_offer(offer, request, teacher)
                self._missing[teacher.peer] = 0
                return False
            async with self._keeping(expected.offer, request, teacher) as keeping:
                try:
                    await self._save_offer(offer, request, teacher)
                    while (part := await arrivals.take()) is not None:
                        await _keep([part, *arrivals.take_waiting()], expected, keeping)
                        if not arrivals.waiting:
                            await keeping.settle()
                except asyncio.CancelledError:
                    # What has come shall not have to come again.
                    await arrivals.stop()
                    await _keep(arrivals.take_waiting(), expected, keeping)
                    raise
        expected.require_whole()
        teacher.digest = digest_of(offer)
        return True

    async def receive_offer(self, link: TeacherLink, request: TeachRequest, teacher: TeacherOutcome) -> None:
        """Keep an offer of which no chunk is wanted yet; raises as `receive` does."""
        async with Arrivals(link.teach(request), CHUNKS_UNDER_WAY) as arrivals:
            offer = checked_offer(await self._first(arrivals, teacher), request)
            await self._save_offer(offer, request, teacher)

    async def recall(self, outcome: QueryOutcome) -> None:
        """Count what teachers sent before this process was started anew; a chunk that two offered, once.

        For the beginning of a collection: here the store reads what it holds.
        """
        query_id = outcome.query.query_id
        held = await asyncio.to_thread(self._store.held_digests, query_id)
        for teacher in outcome.teachers.values():
            offer = self._store.load_offer(query_id, teacher.peer)
            sizes = {info.digest: info.size for info in offer.chunks if info.digest in held} if offer else {}
            held -= sizes.keys()
            teacher.chunks, teacher.bytes = len(sizes), sum(sizes.values())
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
        teacher.classes, teacher.encoding = offer.classes, offer.encoding
        teacher.samples = sum(info.samples for info in offer.chunks)
        teacher.held_chunks, teacher.held_bytes = len(offer.chunks), sum(info.size for info in offer.chunks)
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

    async def _first(self, arrivals: Arrivals[TeachPart], teacher: TeacherOutcome) -> TeachPart | None:
        """Return the first part that is no sign of life; a teacher cannot wait for ever."""
        time, waits = asyncio.get_running_loop().time, 0
        began = time()
        while isinstance(part := await arrivals.take(), TeachWait):
            waits += 1
            if waits > MAX_WAITS:
                raise ProtocolError(f"it said {waits} times that its answer is on its way")
            if time() - began > MAX_WAIT_SECONDS:
                raise PeerRefusedError(f"its answer was still on its way after {MAX_WAIT_SECONDS:g} s")
            waiting = f"waits, {part.ahead} before it" if part.ahead else "makes its answer"
            self.tell(f"{teacher.name} {waiting}")
        return part

    def _begin(self, offer: TeachOffer, request: TeachRequest, teacher: TeacherOutcome) -> set[int]:
        """Note what is offered, and return the positions of what is to come."""
        held = set(request.held)
        missing = {at for at, info in enumerate(offer.chunks) if info.digest not in held}
        there = [info for at, info in enumerate(offer.chunks) if at not in missing]
        teacher.classes, teacher.encoding = offer.classes, offer.encoding
        teacher.samples = sum(info.samples for info in there)
        teacher.held_chunks, teacher.held_bytes = len(there), sum(info.size for info in there)
        self._missing[teacher.peer] = sum(offer.chunks[at].size for at in missing)
        return missing

    async def _save_offer(self, offer: TeachOffer, request: TeachRequest, teacher: TeacherOutcome) -> None:
        await on_a_thread(partial(self._store.save_offer, request.query_id, teacher.peer, offer))

    def _keeping(self, offer: TeachOffer, request: TeachRequest, teacher: TeacherOutcome) -> Keeping:
        """Return what checks and saves the chunks of one response, and counts those that were saved."""

        def save(chunk: Chunk) -> None:
            check_chunk(chunk, offer)
            digest = offer.chunks[chunk.index].digest
            self._store.save_chunk(
                request.query_id, teacher.peer, index=chunk.index, data=chunk.data, digest=digest
            )

        return Keeping(save, lambda chunk: self._count(chunk, offer, teacher))

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


async def _keep(parts: Sequence[TeachPart], expected: Expected, keeping: Keeping) -> None:
    """Keep the chunks among `parts` up to the first that should not be there."""
    chunks: list[Chunk] = []
    try:
        for part in parts:
            chunks += expected.next(part)
    finally:
        await keeping.put(chunks)
