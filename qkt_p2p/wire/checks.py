"""What a field of a peer's message must be; every check raises ProtocolError and nothing else."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, TypeVar

from qkt_p2p import limits
from qkt_p2p.errors import ProtocolError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qkt_p2p.types import Shape

T = TypeVar("T")

DIGEST_BYTES: Final = 32
_SHOWN_CHARACTERS: Final = 80


def parsed(parse: Callable[[str], T], text: str) -> T:
    """Return what one of the parsers of types.py makes of `text`."""
    try:
        return parse(text)
    except UsageError as error:
        raise ProtocolError(error.message) from error


def capped(values: Sequence[T], limit: int, what: str) -> Sequence[T]:
    """Return at most `limit` values."""
    if len(values) > limit:
        raise ProtocolError(f"{what}: {len(values)} entries, at most {limit} are allowed")
    return values


def present(values: Sequence[T], what: str) -> Sequence[T]:
    """Return at least one value."""
    if not values:
        raise ProtocolError(f"{what}: there is none")
    return values


def within(value: int, low: int, high: int, what: str) -> int:
    """Return a number from `low` to `high`."""
    if not low <= value <= high:
        raise ProtocolError(f"{what}: {value} is not in {low}..{high}")
    return value


def model_version(value: int) -> int:
    """Return the version of a model."""
    return within(value, 0, limits.MAX_MODEL_VERSION, "model_version")


def number(value: float, low: float, high: float, what: str) -> float:
    """Return a number in [low, high]; NaN is none."""
    if not low <= value <= high:
        raise ProtocolError(f"{what}: {value} is not in [{low:g}, {high:g}]")
    return value


def fraction(value: float, what: str) -> float:
    """Return a number in [0, 1]; NaN is none."""
    return number(value, 0.0, 1.0, what)


def distinct(values: Sequence[str], what: str) -> None:
    """Check that no value occurs twice."""
    if len(set(values)) != len(values):
        raise ProtocolError(f"{what}: an entry occurs twice")


def name(text: str, what: str) -> str:
    """Return a name that can be shown to people."""
    return _printable(text, limits.MAX_NAME_CHARACTERS, what)


def addresses(values: Sequence[str]) -> tuple[str, ...]:
    """Return addresses that can be shown to people; whether one can be dialed is for a dialer to say."""
    found = capped(values, limits.MAX_ADDRESSES, "addresses")
    return tuple(_printable(value, limits.MAX_ADDRESS_CHARACTERS, "addresses") for value in found)


def digest(value: bytes) -> bytes:
    """Return what may be the digest of a chunk."""
    if len(value) != DIGEST_BYTES:
        raise ProtocolError(f"a digest has {len(value)} bytes instead of {DIGEST_BYTES}")
    return value


def shape(values: Sequence[int]) -> Shape:
    """Return the shape of an input that this node can hold in memory."""
    if len(values) != limits.MAX_RANK or not all(1 <= side <= limits.MAX_SIDE for side in values):
        raise ProtocolError(f"input_shape: {list(values)[:8]} is not channels, height, width")
    if math.prod(values) > limits.MAX_INPUT_ELEMENTS:
        raise ProtocolError(f"input_shape: {list(values)} has over {limits.MAX_INPUT_ELEMENTS} elements")
    channels, height, width = values
    return (channels, height, width)


def _printable(text: str, limit: int, what: str) -> str:
    if not 0 < len(text) <= limit or not text.isprintable():
        shown = text[:_SHOWN_CHARACTERS]
        raise ProtocolError(f"{what}: {shown!r} is not 1 to {limit} printable characters")
    return text
