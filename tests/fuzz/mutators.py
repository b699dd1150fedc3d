"""Changes within the structure of what is decoded, so that damage gets past the outermost check."""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable, Sequence
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
JSON_VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1e999,
    10**30,
    0.5,
    "",
    "a",
    "\ud800",
    "1e9",
    [],
    {},
    [[]],
    [None],
    {"a": 1},
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
                parts[at] = (number, protobuf(kind)(body, random) if kind else _changed_bytes(body, random))
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


def safetensors(data: bytes, random: Random) -> bytes:
    """Change the header or the numbers of a safetensors file."""
    length = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + length])
    except ValueError:
        return _changed_bytes(data, random)
    body = bytearray(data[8 + length :])
    if random.random() < 0.5 or not isinstance(header, dict) or not header:
        return data[: 8 + length] + bytes(_with_number(body, random))
    name = random.choice(list(header))
    match random.randrange(5):
        case 0:
            del header[name]
        case 1:
            header[random.choice(("a", "", "__metadata__"))] = header[name]
        case 2 if isinstance(header[name], dict):
            header[name]["dtype"] = random.choice(("F16", "F32", "F64", "BF16", "U8", "I8", "I64", "BOOL"))
        case 3 if isinstance(header[name], dict) and isinstance(header[name].get("shape"), list):
            shape = header[name]["shape"]
            shape.insert(random.randint(0, len(shape)), random.choice((0, 1, 2, 2**62, 2**63)))
        case _:
            header[name] = _changed_json(header[name], random)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(body)


def json_text(data: bytes, random: Random) -> bytes:
    """Change one value of a JSON text."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return _changed_bytes(data, random)
    if random.random() < 0.02:
        return b"[" * 5000
    return json.dumps(_changed_json(value, random)).encode()


def der(data: bytes, random: Random) -> bytes:
    """Change one element of a DER structure, and the lengths around it."""
    elements = _der_elements(data)
    if elements is None:
        return _changed_bytes(data, random)
    parent = elements
    while True:
        at = random.randrange(len(parent)) if parent else 0
        inner = parent[at][1] if parent else b""
        if isinstance(inner, list) and inner and random.random() < 0.85:
            parent = inner
        else:
            break
    _change_elements(parent, at, random)
    return _der_bytes(elements)


def zipped(data: bytes, random: Random) -> bytes:
    """Change one file within a ZIP archive, whose checksums are right again after that."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            files = {name: archive.read(name) for name in archive.namelist() if name}
    except Exception:  # noqa: BLE001 - a damaged archive may raise anything; it is damaged further
        return _changed_bytes(data, random)
    if files:
        name = random.choice(list(files))
        match random.randrange(6):
            case 0:
                del files[name]
            case 1:
                files[random.choice(list(files))] = files[name]
            case _:
                files[name] = _changed_bytes(files[name], random)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return made.getvalue()


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
        return _changed_bytes(before or b"", random)
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


def _changed_bytes(data: bytes, random: Random) -> bytes:
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


def _with_number(body: bytearray, random: Random) -> bytearray:
    import numpy as np  # noqa: PLC0415 - most mutators work without

    kind: Callable[[float], Any] = random.choice((np.float16, np.float32))
    with np.errstate(over="ignore"):
        number = kind(random.choice(FLOATS)).tobytes()
    if len(body) >= len(number):
        at = random.randrange(0, len(body) - len(number) + 1, len(number))
        body[at : at + len(number)] = number
    return body


def _changed_json(value: Any, random: Random) -> Any:
    if isinstance(value, dict) and value and random.random() < 0.8:
        key = random.choice(list(value))
        if random.random() < 0.1:
            return {name: each for name, each in value.items() if name != key}
        return {**value, key: _changed_json(value[key], random)}
    if isinstance(value, list) and value and random.random() < 0.8:
        at = random.randrange(len(value))
        return [*value[:at], _changed_json(value[at], random), *value[at + 1 :]]
    return random.choice((*JSON_VALUES, value, [value], {"a": value}))


_Elements = list[tuple[int, "bytes | _Elements"]]
_CONSTRUCTED = 0x20
_TAGS = (
    0x01,
    0x02,
    0x03,
    0x04,
    0x05,
    0x06,
    0x0A,
    0x0C,
    0x13,
    0x16,
    0x17,
    0x18,
    0x30,
    0x31,
    0x80,
    0x82,
    0x86,
    0xA0,
)


def _der_elements(data: bytes) -> _Elements | None:
    """Return elements as (tag, content), content as elements where it consists of some; None for no DER."""
    found: _Elements = []
    at = 0
    while at < len(data):
        if at + 2 > len(data):
            return None
        tag, size = data[at], data[at + 1]
        at += 2
        if size & 0x80:
            more = size & 0x7F
            size = int.from_bytes(data[at : at + more], "big")
            at += more
        if at + size > len(data):
            return None
        content = data[at : at + size]
        inner = _der_elements(content) if tag & _CONSTRUCTED or tag == 0x04 else None
        found.append((tag, content if inner is None else inner))
        at += size
    return found


def _der_bytes(elements: _Elements) -> bytes:
    made = b""
    for tag, content in elements:
        inner = content if isinstance(content, bytes) else _der_bytes(content)
        size = len(inner)
        length = bytes([size]) if size < 0x80 else bytes([0x82]) + size.to_bytes(2, "big")
        if 0x80 <= size < 0x100:
            length = bytes([0x81, size])
        made += bytes([tag]) + length + inner
    return made


def _change_elements(elements: _Elements, at: int, random: Random) -> None:
    if not elements:
        elements.append((random.choice(_TAGS), b""))
        return
    tag, content = elements[at]
    match random.randrange(5):
        case 0:
            del elements[at]
        case 1:
            elements.insert(random.randint(0, len(elements)), elements[at])
        case 2:
            elements[at] = (random.choice(_TAGS), content)
        case 3 if isinstance(content, bytes):
            elements[at] = (tag, _changed_bytes(content, random))
        case _:
            random.shuffle(elements)
