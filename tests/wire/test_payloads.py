"""What is put together by hand is what protobuf writes, and what is taken apart is what protobuf reads."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from qkt_p2p.errors import ProtocolError
from qkt_p2p.limits import MAX_CHUNK_BYTES, MAX_CHUNKS
from qkt_p2p.pb import peer_pb2 as pb
from qkt_p2p.types import Chunk, TeachPart
from qkt_p2p.wire import messages
from qkt_p2p.wire.calls import AnswerPart, decode_answer_part, encode_answer_part
from qkt_p2p.wire.payloads import encode_chunk, encode_response, find_chunk, find_response

indices = st.integers(0, MAX_CHUNKS - 1) | st.sampled_from((0, 127, 128, 16_383))
# Lengths on both sides of where a length takes one byte more, the outer one included.
sizes = st.integers(1, 300) | st.integers(16_370, 16_390) | st.just(MAX_CHUNK_BYTES)


@given(indices, sizes)
def test_chunks(index: int, size: int) -> None:
    """The same bytes, there and back."""
    chunk = Chunk(index, b"\x12" * size)
    encoded = encode_chunk(chunk)
    assert encoded == messages.encode_teach_part(chunk).SerializeToString()
    assert find_chunk(encoded) == chunk


@given(st.integers(0, 300) | st.integers(16_370, 16_390) | st.just(MAX_CHUNK_BYTES))
def test_responses(size: int) -> None:
    """The same bytes, there and back."""
    response = b"\x12" * size
    encoded = encode_response(response)
    assert encoded == encode_answer_part(response).SerializeToString()
    assert find_response(encoded) == response


# Bytes that are nearly such messages: tags and small lengths, in any order, cut anywhere.
nearly = st.lists(
    st.sampled_from((b"\x12", b"\x08", b"\x0a", b"\x00", b"\x01", b"\x02", b"\x04", b"\x80", b"\xff", b"d")),
    max_size=12,
).map(b"".join)


@given(nearly | st.binary(max_size=40))
@example(b"\x12\x05\x08\x80\x00\x12\x00")
@example(b"\x12\x06\x08\x80\x00\x12\x01d")
@example(b"\x12\x06\x12\x01d\x12\x01e")
def test_whatever_is_found_is_what_protobuf_finds(data: bytes) -> None:
    """Of any bytes: nothing is found where protobuf finds something else, or a fault."""
    chunk, response = find_chunk(data), find_response(data)
    if chunk is not None:
        assert chunk == _part(data)
    if response is not None:
        assert response == _answer(data)


@pytest.mark.parametrize(
    "chunk", [Chunk(MAX_CHUNKS, b"d"), Chunk(0, b""), Chunk(0, bytes(MAX_CHUNK_BYTES + 1))]
)
def test_chunks_beyond_caps_are_left_to_who_refuses_them(chunk: Chunk) -> None:
    """Nothing is found, and the decoder of messages says why not."""
    encoded = encode_chunk(chunk)
    assert find_chunk(encoded) is None
    with pytest.raises(ProtocolError):
        messages.decode_teach_part(pb.TeachResponse.FromString(encoded))


def _part(data: bytes) -> TeachPart | None:
    try:
        return messages.decode_teach_part(pb.TeachResponse.FromString(data))
    except (DecodeError, ProtocolError):
        return None


def _answer(data: bytes) -> AnswerPart | None:
    try:
        return decode_answer_part(pb.AnswerRequest.FromString(data))
    except (DecodeError, ProtocolError):
        return None
