"""Collects masked synthetic responses: only what was asked for may be offered, and only that is kept."""

from __future__ import annotations

from contextlib import aclosing
from hashlib import sha256
from typing import TYPE_CHECKING

from qkt_p2p.errors import ProtocolError
from qkt_p2p.types import Chunk, Progress, TeachEnd, TeachOffer, TeachWait

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from qkt_p2p.outcome import TeacherOutcome
    from qkt_p2p.seams import ReportProgress, ResponseStore, TeacherLink
    from qkt_p2p.types import TeachPart, TeachRequest


class Collection:
    """The responses to one query; `progress` is told of the bytes of all teachers together."""

    def __init__(self, store: ResponseStore, progress: ReportProgress) -> None:
        self._store = store
        self._progress = progress
        self._received = 0
        self._expected = 0

    async def receive(self, link: TeacherLink, request: TeachRequest, teacher: TeacherOutcome) -> None:
        """Keep one response and note in `teacher` what it holds.

        Raises ProtocolError at the first part that is not what the protocol, the request or the offer
        says, and what the link raises.
        """
        async with aclosing(link.teach(request)) as parts:
            offer = _checked_offer(await self._first(parts, teacher), request)
            missing = {at for at, info in enumerate(offer.chunks) if info.digest not in request.held}
            teacher.classes = offer.classes
            teacher.samples = sum(info.samples for at, info in enumerate(offer.chunks) if at not in missing)
            self._expected += sum(offer.chunks[at].size for at in missing)
            self._store.save_offer(request.query_id, link.peer, offer)
            ended = False
            async for part in parts:
                if ended:
                    raise ProtocolError("the response goes on after its end")
                if isinstance(part, TeachEnd):
                    ended = True
                else:
                    chunk = _checked_chunk(part, offer, missing)
                    self._keep(chunk, offer, request, teacher)
                    missing.remove(chunk.index)
        if missing or not ended:
            raise ProtocolError(f"the response broke off with {len(missing)} chunks missing")

    async def _first(self, parts: AsyncGenerator[TeachPart], teacher: TeacherOutcome) -> TeachPart | None:
        """Return the first part that is no sign of life."""
        while isinstance(part := await anext(parts, None), TeachWait):
            waiting = f"waits, {part.ahead} before it" if part.ahead else "makes its answer"
            self._progress(Progress("collect", self._received, self._expected, f"{teacher.name} {waiting}"))
        return part

    def _keep(self, chunk: Chunk, offer: TeachOffer, request: TeachRequest, teacher: TeacherOutcome) -> None:
        info = offer.chunks[chunk.index]
        self._store.save_chunk(
            request.query_id, teacher.peer, index=chunk.index, data=chunk.data, digest=info.digest
        )
        teacher.samples += info.samples
        teacher.bytes += info.size
        self._received += info.size
        self._progress(Progress("collect", self._received, self._expected, f"from {teacher.name}"))


def _checked_offer(part: TeachPart | None, request: TeachRequest) -> TeachOffer:
    if not isinstance(part, TeachOffer):
        raise ProtocolError("the response does not begin with an offer")
    if part.medium != request.medium:
        raise ProtocolError(f"medium {part.medium!r} was offered, {request.medium!r} was asked for")
    if not set(part.classes) <= set(request.classes):
        raise ProtocolError("classes were offered that nobody asked for")
    samples, most = sum(info.samples for info in part.chunks), request.samples_per_class * len(part.classes)
    if not samples:
        raise ProtocolError("an offer without samples came")
    if samples > most:
        raise ProtocolError(f"{samples} samples were offered, at most {most} were asked for")
    return part


def _checked_chunk(part: TeachPart, offer: TeachOffer, missing: set[int]) -> Chunk:
    if not isinstance(part, Chunk):
        raise ProtocolError("the response holds a second offer")
    if part.index not in missing:
        raise ProtocolError(f"chunk {part.index} was not offered, is held already, or came twice")
    info = offer.chunks[part.index]
    if len(part.data) != info.size or sha256(part.data).digest() != info.digest:
        raise ProtocolError(f"chunk {part.index} is not what was offered")
    return part
