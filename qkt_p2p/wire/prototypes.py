"""Prototypes <-> bytes: all that a teacher with a privacy budget says of a class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from qkt_p2p.errors import ProtocolError
from qkt_p2p.wire.tensors import tensors_of

_TENSOR: Final = "direction"


@dataclass(frozen=True, slots=True, eq=False)
class Prototype:
    """A class in d numbers per sample: `direction` [d], the noisy mean of its samples scaled to length 1."""

    direction: npt.NDArray[np.float32]


def encode_prototype(prototype: Prototype) -> bytes:
    """Return a prototype as a safetensors file, the same for the same numbers; these become float16."""
    return bytes(save({_TENSOR: np.ascontiguousarray(prototype.direction, np.float16)}))


def is_prototype(data: bytes) -> bool:
    """Tell by the name in its header whether a description of a class is a prototype; no more is checked."""
    return f'"{_TENSOR}"'.encode() in data[: len(encode_prototype(Prototype(np.zeros(1, np.float32))))]


def decode_prototype(data: bytes, *, numbers: int) -> Prototype:
    """Return the prototype in `data`, of samples of so many `numbers`.

    Raises ProtocolError for anything else: other tensors, types or shapes, numbers that are not finite.
    """
    direction = tensors_of(data, {_TENSOR: "F16"})[_TENSOR]
    if direction.shape != (numbers,):
        raise ProtocolError(f"a prototype has shape {direction.shape}, expected {(numbers,)}")
    if not np.isfinite(direction).all():
        raise ProtocolError("a prototype has numbers that are not finite")
    return Prototype(direction.astype(np.float32))
