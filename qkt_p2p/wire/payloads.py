"""The messages that carry most bytes, put together and taken apart by hand.

Chunks are nearly all of what travels, and protobuf copies each twice on either side. What is written here is
what protobuf writes (https://protobuf.dev/programming-guides/encoding/); what is laid out in any other way
is left to protobuf.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from qkt_p2p.limits import MAX_CHUNK_BYTES, MAX_CHUNKS
from qkt_p2p.pb import peer_pb2 as pb
from qkt_p2p.types import Chunk

if TYPE_CHECKING:
    from google.protobuf.message import Message

_VARINT: Final = 0
_LENGTH_DELIMITED: Final = 2


def _tag(message: type[Message], field: str, wire_type: int = _LENGTH_DELIMITED) -> bytes:
    """Return the byte before a field, whose number is below 16."""
    return bytes([message.DESCRIPTOR.fields_by_name[field].number << 3 | wire_type])


_CHUNK: Final = _tag(pb.TeachResponse, "chunk")
_INDEX: Final = _tag(pb.Chunk, "index", _VARINT)
_DATA: Final = _tag(pb.Chunk, "data")
_RESPONSE: Final = _tag(pb.AnswerRequest, "response")


def encode_chunk(chunk: Chunk) -> bytes:
    """Return the TeachResponse of a chunk."""
    index = _INDEX + _varint(chunk.index) if chunk.index else b""
    head = index + _DATA + _varint(len(chunk.data))
    return b"".join((_CHUNK, _varint(len(head) + len(chunk.data)), head, chunk.data))


def encode_response(message: bytes) -> bytes:
    """Return the AnswerRequest of a message."""
    return b"".join((_RESPONSE, _varint(len(message)), message))


def find_chunk(message: bytes) -> Chunk | None:
    """Return the chunk in a TeachResponse that is laid out as by `encode_chunk`, within caps; else None."""
    start, index = _start(message, 0, _CHUNK), 0
    if start and message[start : start + 1] == _INDEX:
        index, start = _number(message, start + 1)
    start = _start(message, start, _DATA) if start else 0
    if not start or not 0 < len(message) - start <= MAX_CHUNK_BYTES or index >= MAX_CHUNKS:
        return None
    return Chunk(index, message[start:])


def find_response(message: bytes) -> bytes | None:
    """Return the message in an AnswerRequest that is laid out as by `encode_response`; None in any other."""
    start = _start(message, 0, _RESPONSE)
    return message[start:] if start else None


def _start(message: bytes, at: int, tag: bytes) -> int:
    """Return where the content of the field at `at` begins that ends the message; 0 where there is none."""
    if message[at : at + 1] != tag:
        return 0
    size, start = _number(message, at + 1)
    return start if start + size == len(message) else 0


def _varint(number: int) -> bytes:
    """Return a number in groups of seven bits, the least first; all but the last have the highest bit set."""
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def _number(message: bytes, at: int) -> tuple[int, int]:
    """Return what `_varint` wrote there, of at most 28 bits, and where it ends; (0, 0) where nothing is."""
    number = 0
    for place, group in enumerate(message[at : at + 4]):
        number |= (group & 0x7F) << 7 * place
        if group < 0x80:
            return number, at + place + 1
    return 0, 0
