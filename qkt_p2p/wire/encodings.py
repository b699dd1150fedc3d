"""Chunks <-> what they stand for: a teacher compresses where its asker understands that and it pays.

A chunk is known by the digest of what travels. Its plain size is in the offer, so that nothing is inflated
beyond it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import zstandard

from qkt_p2p.errors import ProtocolError
from qkt_p2p.limits import MAX_CHUNK_BYTES, MAX_INFLATED_BYTES
from qkt_p2p.types import ZSTD

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from qkt_p2p.types import ClassName, ReportDone, TeachOffer

_LEVEL: Final = 15
"""A recipe of 110 kB takes 24 ms, and 8 % fewer bytes than at level 12; level 19 takes twice as long, and on
models ten times, for another hundredth."""

_WORTHWHILE: Final = 0.05
"""Least share of a stream's bytes that has to be saved."""


def encode_chunks(
    chunks: Sequence[bytes],
    understood: Collection[str],
    report: ReportDone = lambda *_: None,
) -> tuple[str, list[bytes]]:
    """Return (encoding, chunks as they travel); the encoding is empty where they travel as they are.

    Within an encoding a chunk that gets no smaller travels as it is, too. Raises what `report` raises, which
    is told before each chunk: a model's take seconds together.
    """
    plain = sum(map(len, chunks))
    if ZSTD not in understood or plain > MAX_INFLATED_BYTES:
        return "", list(chunks)
    compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=False)
    packed: list[bytes] = []
    for chunk in chunks:
        report(len(packed), len(chunks), "compressing")
        packed.append(min(chunk, compressor.compress(chunk), key=len))
    if sum(map(len, packed)) > (1 - _WORTHWHILE) * plain:
        return "", list(chunks)
    return ZSTD, packed


def decode_chunks(offer: TeachOffer, chunks: Sequence[bytes]) -> list[bytes]:
    """Return what the chunks of an offer stand for, all of them and in its order.

    Raises ProtocolError where a chunk is not what the offer says. Nothing larger than it says is inflated.
    """
    if [len(chunk) for chunk in chunks] != [info.size for info in offer.chunks]:
        raise ProtocolError("the response does not hold the chunks that were offered")
    return [
        _inflated(chunk, info.plain_size, offer.encoding) if info.plain_size else chunk
        for chunk, info in zip(chunks, offer.chunks, strict=True)
    ]


def decode_response(
    offer: TeachOffer, held: Mapping[bytes, bytes], classes: Collection[ClassName]
) -> list[bytes]:
    """Return what an offer's chunks stand for, found by their digests: an empty part for other classes.

    `classes` are all of the offer's, or some that arrived. Raises ProtocolError where a chunk of theirs is
    missing or not what the offer says.
    """
    part = offer.only(classes)
    decoded = decode_chunks(part, [held[info.digest] for info in part.chunks if info.digest in held])
    if part is offer:
        return decoded
    came = iter(decoded)
    return [next(came) if name in classes else b"" for name in offer.classes]


def _inflated(chunk: bytes, size: int, encoding: str) -> bytes:
    if encoding != ZSTD:
        raise ProtocolError(f"this version does not understand the encoding {encoding[:40]!r}")
    try:
        found = zstandard.frame_content_size(chunk)
        # The library allocates what a frame says of itself, whatever it is told to expect.
        if not found == size <= MAX_CHUNK_BYTES:
            raise ProtocolError(f"a chunk holds {found} bytes, {size} were offered")
        return zstandard.ZstdDecompressor(max_window_size=MAX_CHUNK_BYTES).decompress(
            chunk, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise ProtocolError(f"a chunk cannot be decompressed: {error}") from error
