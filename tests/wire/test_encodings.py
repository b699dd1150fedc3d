"""Chunks as they travel: smaller where it pays, and no stranger's inflates beyond its offer."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from qkt_p2p.digests import chunk_digest
from qkt_p2p.errors import CancelledError, ProtocolError
from qkt_p2p.limits import MAX_CHUNK_BYTES
from qkt_p2p.types import ENCODINGS, ZSTD, ChunkInfo, ClassName, TeachOffer
from qkt_p2p.wire.encodings import decode_chunks, decode_response, encode_chunks

SMOOTH = b"much the same, " * 100
NOISE = np.random.default_rng(0).bytes(1500)
FRAME = zstandard.ZstdCompressor().compress(SMOOTH)


def offered(*chunks: bytes, plain: tuple[int, ...], encoding: str = ZSTD) -> TeachOffer:
    infos = tuple(
        ChunkInfo(chunk_digest(chunk), len(chunk), 1, size) for chunk, size in zip(chunks, plain, strict=True)
    )
    return TeachOffer("moments", 1, (ClassName("cat"),), infos, encoding)


def inflated(chunk: bytes, size: int = len(SMOOTH)) -> bytes:
    return decode_chunks(offered(chunk, plain=(size,)), [chunk])[0]


def frame(data: bytes, **options: int) -> bytes:
    parameters = zstandard.ZstdCompressionParameters(**options)
    return zstandard.ZstdCompressor(compression_params=parameters).compress(data)


contents = st.binary(min_size=1, max_size=300) | st.builds(
    lambda data, times: data * times, st.binary(min_size=1, max_size=20), st.integers(1, 200)
)


@given(st.lists(contents, min_size=1, max_size=5), st.sampled_from([(), ("lzma",), ENCODINGS]))
def test_chunks_survive_the_way_there_and_back(plain: list[bytes], understood: tuple[str, ...]) -> None:
    """Whatever they hold, in the same order; never larger, and encoded only for those who understand."""
    encoding, chunks = encode_chunks(plain, understood)
    assert encoding in {"", *understood}
    assert all(len(chunk) <= len(data) for chunk, data in zip(chunks, plain, strict=True))
    sizes = tuple(
        len(data) if len(chunk) < len(data) else 0 for chunk, data in zip(chunks, plain, strict=True)
    )
    assert encoding or not any(sizes)
    assert decode_chunks(offered(*chunks, plain=sizes, encoding=encoding), chunks) == plain


def test_compression_is_for_streams_where_it_pays() -> None:
    """Noise travels as it is, alone or beside what gets smaller."""
    assert encode_chunks([NOISE], ENCODINGS) == ("", [NOISE])
    encoding, (small, same) = encode_chunks([SMOOTH, NOISE], ENCODINGS)
    assert (encoding, same) == (ZSTD, NOISE)
    assert len(small) < 0.1 * len(SMOOTH)


def test_what_inflates_beyond_its_cap_travels_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would take it compressed."""
    monkeypatch.setattr("qkt_p2p.wire.encodings.MAX_INFLATED_BYTES", 2 * len(SMOOTH))
    assert encode_chunks([SMOOTH] * 2, ENCODINGS)[0] == ZSTD
    assert encode_chunks([SMOOTH] * 3, ENCODINGS) == ("", [SMOOTH] * 3)


def test_the_same_chunks_travel_as_the_same_bytes() -> None:
    """Digests of what travels can be compared."""
    assert encode_chunks([SMOOTH], ENCODINGS) == encode_chunks([SMOOTH], ENCODINGS)


@given(st.binary(max_size=200), st.integers(1, MAX_CHUNK_BYTES))
@example(b"", 1)
@example(FRAME[:4], 1)
@example(FRAME[:-1], len(SMOOTH))
@example(FRAME[:12], len(SMOOTH))
def test_arbitrary_bytes_are_a_protocol_error(data: bytes, size: int) -> None:
    """No bytes that a stranger makes up raise anything else."""
    with pytest.raises(ProtocolError):
        inflated(data, size)


@given(st.lists(st.tuples(st.integers(0, len(FRAME) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_frame_is_of_the_offered_size_or_refused(damage: list[tuple[int, int]]) -> None:
    """Other content may come of it, which digests and the decoders of media are there for; no other size."""
    data = bytearray(FRAME)
    for at, value in damage:
        data[at] = value
    with suppress(ProtocolError):
        assert len(inflated(bytes(data))) == len(SMOOTH)


def test_a_bomb_is_refused_before_it_is_inflated() -> None:
    """A frame says how much it holds; more than was offered, or than any chunk may hold, is not looked at."""
    bomb = frame(bytes(64 * 1024 * 1024))
    assert len(bomb) < 10_000
    with pytest.raises(ProtocolError, match="a chunk holds 67108864 bytes, 1000 were offered"):
        inflated(bomb, 1000)
    with pytest.raises(ProtocolError, match="a chunk holds 67108864 bytes"):
        inflated(bomb, 64 * 1024 * 1024)


def lying(data: bytes, size: int) -> bytes:
    """Return a frame of `data` that says it holds `size` bytes, both over 255 and under 65,792."""
    sent = bytearray(zstandard.ZstdCompressor().compress(data))
    assert sent[4] >> 6 == 1
    at = 5 if sent[4] & 0x20 else 6
    sent[at : at + 2] = (size - 256).to_bytes(2, "little")
    return bytes(sent)


@pytest.mark.parametrize(
    ("chunk", "size", "reason"),
    [
        (lying(SMOOTH, 700), 700, "cannot be decompressed"),
        (lying(SMOOTH, 2000), 2000, "cannot be decompressed"),
        (FRAME, len(SMOOTH) - 1, "1500 bytes, 1499 were offered"),
        (FRAME, len(SMOOTH) + 1, "1500 bytes, 1501 were offered"),
        (frame(SMOOTH, write_content_size=0), len(SMOOTH), "holds -1 bytes"),
        (FRAME + FRAME, 2 * len(SMOOTH), "holds 1500 bytes"),
        (FRAME + FRAME, len(SMOOTH), "cannot be decompressed"),
        (FRAME + b"more", len(SMOOTH), "cannot be decompressed"),
        (NOISE, 2000, "cannot be decompressed"),
        (b"\x50\x2a\x4d\x18\x04\x00\x00\x00skip", 4, "a chunk holds 0 bytes"),
        (zstandard.ZstdCompressor().compress(b""), 1, "a chunk holds 0 bytes"),
    ],
)
def test_hostile_frames_are_refused_with_the_reason(chunk: bytes, size: int, reason: str) -> None:
    """Sizes that are lies or absent, a second frame, skippable frames, frames that are none."""
    with pytest.raises(ProtocolError, match=reason):
        inflated(chunk, size)


def test_only_what_was_asked_for_is_decoded() -> None:
    """Another encoding, or chunks of other sizes or numbers than offered, are refused."""
    with pytest.raises(ProtocolError, match="does not understand the encoding 'lzma'"):
        decode_chunks(offered(FRAME, plain=(len(SMOOTH),), encoding="lzma"), [FRAME])
    offer = offered(FRAME, NOISE, plain=(len(SMOOTH), 0))
    assert decode_chunks(offer, [FRAME, NOISE]) == [SMOOTH, NOISE]
    for other in ([FRAME], [FRAME, NOISE[1:]], [FRAME, NOISE, NOISE]):
        with pytest.raises(ProtocolError, match="does not hold the chunks that were offered"):
            decode_chunks(offer, other)


def test_a_response_is_read_class_by_class() -> None:
    """Chunks are found by their digests; a class that did not arrive is an empty part, columns stay."""
    cat, dog, owl = (ClassName(name) for name in ("cat", "dog", "owl"))
    chunks = [FRAME, NOISE, FRAME + b"?"]
    offer = replace(offered(*chunks, plain=(len(SMOOTH), 0, 0)), classes=(cat, dog, owl))
    held = {chunk_digest(chunk): chunk for chunk in chunks[:2]}
    assert offer.arrived(held) == (cat, dog)
    assert offer.only((cat, dog)).classes == offer.classes
    assert decode_response(offer, held, (cat, dog)) == [SMOOTH, NOISE, b""]
    assert decode_response(offer, held, (dog,)) == [b"", NOISE, b""]
    with pytest.raises(ProtocolError, match="does not hold the chunks that were offered"):
        decode_response(offer, held, (dog, owl))
    held[chunk_digest(chunks[2])] = chunks[2]
    assert offer.arrived(held) == offer.classes
    assert offer.only(offer.classes) is offer
    assert decode_response(offer, held, offer.classes) == [SMOOTH, NOISE, FRAME + b"?"]


@pytest.mark.parametrize(("medium", "classes"), [("weights", 2), ("inversion", 2), ("features", 1)])
def test_what_is_no_recipe_of_one_class_arrives_whole_or_not(medium: str, classes: int) -> None:
    """Pieces of a file, batches of all classes, and chunks of which there are more than classes."""
    names = (ClassName("cat"), ClassName("dog"))[:classes]
    offer = replace(offered(FRAME, NOISE, plain=(0, 0)), medium=medium, classes=names)
    assert offer.arrived({offer.chunks[0].digest}) == ()
    assert offer.arrived({info.digest for info in offer.chunks}) == names


def test_compressing_can_be_given_up() -> None:
    """It is looked up before each chunk: those of a model take seconds."""
    told: list[float] = []

    def give_up(done: float, *_: object) -> None:
        told.append(done)
        if done:
            raise CancelledError("interrupted")

    with pytest.raises(CancelledError):
        encode_chunks([SMOOTH] * 3, ENCODINGS, give_up)
    assert told == [0, 1]
