"""What a stream may bring: an offer as it was asked for, its chunks, each once and as offered, and an end."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from qkt_p2p.digests import chunk_digest
from qkt_p2p.errors import ProtocolError
from qkt_p2p.limits import MAX_CHUNKS, MAX_RESPONSE_BYTES, MAX_RESPONSES_OF_TEACHER
from qkt_p2p.types import Chunk, TeachEnd, TeachOffer

if TYPE_CHECKING:
    from collections.abc import Collection

    from qkt_p2p.types import ChunkInfo, TeachPart, TeachRequest


@dataclass(slots=True)
class Expected:
    """What is still to come of a response: the positions in `missing`, then its end."""

    offer: TeachOffer
    missing: set[int]
    ended: bool = False

    def next(self, part: TeachPart) -> Chunk | None:
        """Return the chunk that came, None for the end; raises ProtocolError for what should not come now."""
        if self.ended:
            raise ProtocolError("the response goes on after its end")
        if isinstance(part, TeachEnd):
            self.ended = True
            return None
        if not isinstance(part, Chunk):
            raise ProtocolError("the response holds a second offer")
        if part.index not in self.missing:
            raise ProtocolError(f"chunk {part.index} was not offered, is held already, or came twice")
        self.missing.remove(part.index)
        return part

    def require_whole(self) -> None:
        """Raise ProtocolError where something did not come."""
        if self.missing or not self.ended:
            raise ProtocolError(f"the response broke off with {len(self.missing)} chunks missing")


def checked_offer(part: TeachPart | None, request: TeachRequest) -> TeachOffer:
    """Return the offer that a response begins with; raises ProtocolError where it is not as asked for."""
    if not isinstance(part, TeachOffer):
        raise ProtocolError("the response does not begin with an offer")
    if part.medium != request.medium:
        raise ProtocolError(f"medium {part.medium!r} was offered, {request.medium!r} was asked for")
    if not set(part.classes) <= set(request.classes):
        raise ProtocolError("classes were offered that nobody asked for")
    if part.encoding and part.encoding not in request.encodings:
        raise ProtocolError(f"the encoding {part.encoding!r} was not asked for")
    samples, most = sum(info.samples for info in part.chunks), request.samples_per_class * len(part.classes)
    if not samples:
        raise ProtocolError("an offer without samples came")
    if samples > most:
        raise ProtocolError(f"{samples} samples were offered, at most {most} were asked for")
    return part


def check_total(brought: tuple[int, int], coming: Collection[ChunkInfo]) -> None:
    """Raise ProtocolError where a teacher sends more for one query than honest ones do.

    `brought` are the chunks and bytes that came of all its offers: whoever offers something else after each
    break would fill the disk.
    """
    chunks = brought[0] + len(coming)
    size = brought[1] + sum(info.size for info in coming)
    if chunks > MAX_RESPONSES_OF_TEACHER * MAX_CHUNKS or size > MAX_RESPONSES_OF_TEACHER * MAX_RESPONSE_BYTES:
        raise ProtocolError(f"with its new offer it would send {chunks:,} chunks of {size:,} bytes in all")


def check_chunk(chunk: Chunk, offer: TeachOffer) -> None:
    """Raise ProtocolError where a chunk does not hold what was offered."""
    info = offer.chunks[chunk.index]
    if len(chunk.data) != info.size or chunk_digest(chunk.data) != info.digest:
        raise ProtocolError(f"chunk {chunk.index} is not what was offered")


def digest_of(offer: TeachOffer) -> str:
    """Return the digest of a whole response, hexadecimal: SHA-256 over the digests of its chunks in order."""
    return sha256(b"".join(info.digest for info in offer.chunks)).hexdigest()
