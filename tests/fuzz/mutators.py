"""Changes within the structure of messages, so that damage gets past the outermost check."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from random import Random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from tests.fuzz.target import Mutate

NUMBERS = (0, 1, 2, 3, 7, 8, 16, 17, 52, 64, 65, 127, 128, 255, 256, 1024, 65535, 2**20, 2**31 - 1)
FLOATS = (0.0, -0.0, 0.5, 1.0, -1.0, 1.5, 1e-45, 65504.0, 1e5, 3.4e38, math.inf, -math.inf, math.nan)
TEXTS = (
    "",
    "a",
    "7",
    "cat",
    "moments",
    "a,b",
    " a",
    "e\u0301",
    "\x1b[2J",
    "\x00",
    "a" * 65,
    "host:1",
    "0" * 16,
)
_NEGATIVE = (-1, -2, -(2**31))
_VALUES_OF_TYPE: dict[int, Sequence[float]] = {
    FieldDescriptor.CPPTYPE_BOOL: (False, True),
    FieldDescriptor.CPPTYPE_FLOAT: FLOATS,
    FieldDescriptor.CPPTYPE_DOUBLE: FLOATS,
    FieldDescriptor.CPPTYPE_ENUM: (*NUMBERS, *_NEGATIVE),
    FieldDescriptor.CPPTYPE_INT32: (*NUMBERS, *_NEGATIVE),
    FieldDescriptor.CPPTYPE_INT64: (*NUMBERS, *_NEGATIVE, 2**62, 2**63 - 1, -(2**63)),
    FieldDescriptor.CPPTYPE_UINT32: (*NUMBERS, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (*NUMBERS, 2**32, 2**64 - 1),
}
_NAMES = ("x", "y", "w", "a", "b", "axes", "to", "Reshape", "Conv", "MatMul", "Concat", "ai.onnx")


def protobuf(kind: type[Message]) -> Mutate:
    """Change fields of a message."""

    def mutate(data: bytes, random: Random) -> bytes:
        message = kind()
        try:
            message.ParseFromString(data)
        except DecodeError:
            message.Clear()
        for _ in range(random.randint(1, 3)):
            # Texts of ONNX that are no UTF-8 are parsed, but cannot be read.
            with suppress(UnicodeDecodeError):
                _change_message(message, random, depth=0)
        return message.SerializeToString()

    return mutate


def frames(kinds: Sequence[type[Message] | None]) -> Mutate:
    """Change a sequence as `split_frames` takes it apart; a frame's number chooses the kind of message."""

    def mutate(data: bytes, random: Random) -> bytes:
        parts = split_frames(data, len(kinds))
        at = random.randrange(len(parts)) if parts else 0
        match random.randrange(5):
            case 0 if parts:
                del parts[at]
            case 1 if parts:
                parts.insert(random.randint(0, len(parts)), parts[at])
            case 2 if len(parts) > 1:
                random.shuffle(parts)
            case 3 if parts:
                number, body = parts[at]
                kind = kinds[number]
                parts[at] = (number, protobuf(kind)(body, random) if kind else damaged(body, random))
            case _:
                number = random.randrange(len(kinds))
                kind = kinds[number]
                parts.insert(at, (number, protobuf(kind)(b"", random) if kind else random.randbytes(9)))
        return joined_frames(parts)

    return mutate


def split_frames(data: bytes, kinds: int) -> list[tuple[int, bytes]]:
    """Return (number below `kinds`, body) of each frame: a byte, a length of two bytes, a body."""
    found, at = [], 0
    while at + 3 <= len(data):
        end = at + 3 + int.from_bytes(data[at + 1 : at + 3], "big")
        found.append((data[at] % kinds, data[at + 3 : end]))
        at = end
    return found


def joined_frames(parts: Sequence[tuple[int, bytes]]) -> bytes:
    """Return what `split_frames` takes apart; bodies are cut at 64 KiB."""
    cut = [(number, body[:0xFFFF]) for number, body in parts]
    return b"".join(bytes([number]) + len(body).to_bytes(2, "big") + body for number, body in cut)


def _change_message(message: Message, random: Random, *, depth: int) -> None:
    fields: Sequence[Any] = message.DESCRIPTOR.fields
    if not fields:
        return
    present: list[Any] = [field for field, _ in message.ListFields()]
    field = random.choice(present) if present and random.random() < 0.7 else random.choice(fields)
    if field.is_repeated:
        _change_repeated(message, field, random, depth=depth)
    elif field.message_type is None:
        setattr(message, field.name, _scalar(field, getattr(message, field.name), random))
    elif random.random() < 0.1 or depth > 8:
        message.ClearField(field.name)
    else:
        getattr(message, field.name).SetInParent()
        _change_message(getattr(message, field.name), random, depth=depth + 1)


def _change_repeated(message: Message, field: FieldDescriptor, random: Random, *, depth: int) -> None:
    values = getattr(message, field.name)
    at = random.randrange(len(values)) if values else 0
    match random.randrange(4):
        case 0 if values:
            del values[at]
        case 1 if values:
            values.add().CopyFrom(values[at]) if field.message_type else values.append(values[at])
        case 2 if values and field.message_type is None:
            values[at] = _scalar(field, values[at], random)
        case _ if field.message_type is None:
            values.append(_scalar(field, 0, random))
        case _ if depth <= 8:
            chosen = values[at] if values and random.random() < 0.7 else values.add()
            _change_message(chosen, random, depth=depth + 1)


def _scalar(field: FieldDescriptor, before: Any, random: Random) -> Any:
    """Return another value that the field's type allows."""
    if field.type == FieldDescriptor.TYPE_BYTES:
        return damaged(before or b"", random)
    if field.type == FieldDescriptor.TYPE_STRING:
        # A string that is no UTF-8 comes as bytes.
        return _text(before if isinstance(before, str) else "", random)
    if field.enum_type is not None and (field.enum_type.is_closed or random.random() < 0.7):
        return random.choice(field.enum_type.values).number
    return random.choice(_VALUES_OF_TYPE[field.cpp_type])


def _text(before: str, random: Random) -> str:
    match random.randrange(4):
        case 0:
            return random.choice(TEXTS)
        case 1:
            return random.choice(_NAMES)
        case 2 if before:
            at = random.randrange(len(before))
            return before[:at] + chr(random.choice((0, 32, 44, 58, 0x301, 0x1F600))) + before[at + 1 :]
    return before + random.choice(TEXTS)


def damaged(data: bytes, random: Random) -> bytes:
    """Change, leave out, repeat or insert a few bytes anywhere."""
    changed = bytearray(data)
    at = random.randrange(len(changed)) if changed else 0
    match random.randrange(5):
        case 0 if changed:
            changed[at] = random.randrange(256)
        case 1 if changed:
            changed[at] ^= 1 << random.randrange(8)
        case 2 if changed:
            del changed[at : at + random.randint(1, 8)]
        case 3 if changed:
            changed[at:at] = changed[at : at + random.randint(1, 32)]
        case _:
            changed[at:at] = random.randbytes(random.choice((1, 2, 4, 32)))
    return bytes(changed)
