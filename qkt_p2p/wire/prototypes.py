"""Prototypes <-> bytes: all that a teacher with a privacy budget says of a class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from qkt_p2p.errors import ProtocolError
from qkt_p2p.wire.tensors import tensors_of

_DIRECTION: Final = "direction"
_NOISE: Final = "noise"
_MOST_HEADER_BYTES: Final = 1000
_TYPES: Final = {_DIRECTION: "F16", _NOISE: "F32"}


@dataclass(frozen=True, slots=True, eq=False)
class Prototype:
    """A class in d numbers per sample: `direction` [d], the noisy mean of its samples scaled to length 1.

    `noise` is the standard deviation of the noise in each number.
    """

    direction: npt.NDArray[np.float32]
    noise: float


def encode_prototype(prototype: Prototype) -> bytes:
    """Return a prototype as a safetensors file, the same for the same numbers; these become float16."""
    direction = np.ascontiguousarray(prototype.direction, np.float16)
    return bytes(save({_DIRECTION: direction, _NOISE: np.array([prototype.noise], np.float32)}))


def is_prototype(data: bytes) -> bool:
    """Tell by a name in its header whether a description of a class is a prototype; no more is checked."""
    length = int.from_bytes(data[:8], "little")
    return f'"{_DIRECTION}"'.encode() in data[8 : 8 + min(length, _MOST_HEADER_BYTES)]


def decode_prototype(data: bytes, *, numbers: int) -> Prototype:
    """Return the prototype in `data`, of samples of so many `numbers`.

    Raises ProtocolError for anything else: other tensors, types or shapes, numbers that are not finite, noise
    below 0.
    """
    arrays = tensors_of(data, _TYPES)
    shapes = {name: array.shape for name, array in arrays.items()}
    if shapes != {_DIRECTION: (numbers,), _NOISE: (1,)}:
        raise ProtocolError(f"a prototype of {numbers} numbers has the shapes {shapes}")
    noise = float(arrays[_NOISE][0])
    if not np.isfinite(arrays[_DIRECTION]).all() or not 0 <= noise < np.inf:
        raise ProtocolError("a prototype has numbers that are not finite, or noise below 0")
    return Prototype(arrays[_DIRECTION].astype(np.float32), noise)
