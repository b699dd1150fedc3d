"""Changes within the structure of files and of what is signed; see mutators.py for messages."""

from __future__ import annotations

import base64
import io
import json
import re
import zipfile
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np

from tests.fuzz.mutators import FLOATS, damaged

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
_Elements = list[tuple[int, "bytes | _Elements"]]
_CONSTRUCTED = 0x20
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----([^-]*)-----END [A-Z0-9 ]+-----")
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


def safetensors(data: bytes, random: Random) -> bytes:
    """Change the header or the numbers of a safetensors file."""
    length = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + length])
    except ValueError:
        return damaged(data, random)
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
        return damaged(data, random)
    if random.random() < 0.02:
        return b"[" * 5000
    return json.dumps(_changed_json(value, random)).encode()


def der(data: bytes, random: Random) -> bytes:
    """Change one element of a DER structure, and the lengths around it."""
    elements = _der_elements(data)
    if elements is None:
        return damaged(data, random)
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


def pem(data: bytes, random: Random) -> bytes:
    """Change, repeat or leave out one block of a PEM text."""
    blocks = _BLOCK.findall(data)
    if not blocks or random.random() < 0.1:
        return damaged(data, random)
    at = random.randrange(len(blocks))
    label, body = blocks[at]
    match random.randrange(6):
        case 0:
            del blocks[at]
        case 1:
            blocks.insert(random.randint(0, len(blocks)), blocks[at])
        case _:
            blocks[at] = (label, base64.b64encode(der(_content(body), random)))
    return b"".join(
        b"-----BEGIN %b-----\n%b\n-----END %b-----\n" % (label, body, label) for label, body in blocks
    )


def _content(body: bytes) -> bytes:
    """Return what base64 stands for, characters that are none left out and the end made to fit."""
    digits = re.sub(rb"[^A-Za-z0-9+/]", b"", body)
    return base64.b64decode(digits[: len(digits) // 4 * 4])


def zipped(data: bytes, random: Random) -> bytes:
    """Change one file within a ZIP archive, whose checksums are right again after that."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            files = {name: archive.read(name) for name in archive.namelist() if name}
    except Exception:  # noqa: BLE001 - a damaged archive may raise anything; it is damaged further
        return damaged(data, random)
    if files:
        name = random.choice(list(files))
        match random.randrange(6):
            case 0:
                del files[name]
            case 1:
                files[random.choice(list(files))] = files[name]
            case _:
                files[name] = damaged(files[name], random)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return made.getvalue()


def _with_number(body: bytearray, random: Random) -> bytearray:
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
            elements[at] = (tag, damaged(content, random))
        case _:
            random.shuffle(elements)
