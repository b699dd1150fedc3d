"""Tensors <-> bytes: safetensors files of which names, types, shapes and numbers are checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from qkt_p2p.errors import ProtocolError
from qkt_p2p.limits import (
    MAX_CHUNK_BYTES,
    MAX_FILE_BYTES,
    MAX_INPUT_ELEMENTS,
    MAX_SAMPLES_PER_CLASS,
    MAX_SIDE,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qkt_p2p.types import ClassName, Shape

_DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
}
_INPUTS: Final = ("U8", "F16", "F32")
_MOST_DIMENSIONS: Final = 4
"""Samples, channels, height, width."""
_ROW_SUM_TOLERANCE: Final = 0.02
"""Rows of float16 targets over a thousand classes sum to 1 within this."""


@dataclass(frozen=True, slots=True, eq=False)
class SyntheticBatch:
    """Samples, float32 [n, ...], and targets, float32 [n, k], distributions over `classes`.

    Samples are inputs [n, C, H, W] in [0, 1], or features behind the asker's stem. They are not `lifelike`
    where too little is known of their class for that.
    """

    inputs: npt.NDArray[np.float32]
    targets: npt.NDArray[np.float32]
    classes: tuple[ClassName, ...]
    lifelike: bool = True

    def __len__(self) -> int:
        return len(self.inputs)


def as_levels(inputs: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Return inputs in [0, 1] as the nearest of 255 levels, a quarter of the bytes."""
    return np.round(inputs * np.float32(255)).astype(np.uint8)


def encode_batch(inputs: npt.NDArray[Any], targets: npt.NDArray[Any]) -> bytes:
    """Return a batch as bytes, the same for the same arrays.

    Inputs [n, C, H, W] travel as they are: uint8 stands for [0, 1] in 255 steps, float16 and float32 lie
    in [0, 1]. Targets [n, k] travel as float16.
    """
    arrays = {"inputs": np.ascontiguousarray(inputs), "targets": np.ascontiguousarray(targets, np.float16)}
    return bytes(save(arrays))


def decode_batch(data: bytes, *, input_shape: Shape, classes: Sequence[ClassName]) -> SyntheticBatch:
    """Return the batch in `data`, whose inputs have `input_shape` and whose targets are over `classes`.

    Raises ProtocolError for anything else: other tensors, types or shapes, numbers outside [0, 1] or not
    finite, rows of targets that are no distribution, more than limits.py allows.
    """
    _check_expectation(input_shape, classes)
    arrays = tensors_of(data, {"inputs": _INPUTS, "targets": _INPUTS})
    samples = len(arrays["inputs"]) if arrays["inputs"].ndim else 0
    if not 1 <= samples <= MAX_SAMPLES_PER_CLASS * len(classes):
        raise ProtocolError(f"a synthetic batch holds {samples} samples")
    inputs = _fractions(arrays["inputs"], (samples, *input_shape), "inputs")
    targets = _fractions(arrays["targets"], (samples, len(classes)), "targets")
    return SyntheticBatch(inputs, check_distributions(targets, "targets"), tuple(classes))


def encode_targets(targets: npt.NDArray[Any]) -> bytes:
    """Return targets [n, k] alone, for samples that the other side can make by itself."""
    return bytes(save({"targets": np.ascontiguousarray(targets, np.float16)}))


def decode_targets(data: bytes, *, samples: int, classes: Sequence[ClassName]) -> npt.NDArray[np.float32]:
    """Return targets [samples, len(classes)]; raises ProtocolError for anything else."""
    found = tensors_of(data, {"targets": "F16"}, most_bytes=MAX_FILE_BYTES)["targets"]
    return check_distributions(_fractions(found, (samples, len(classes)), "targets"), "targets")


def tensors_of(
    data: bytes, types: Mapping[str, str | Sequence[str]], *, most_bytes: int = MAX_CHUNK_BYTES
) -> dict[str, npt.NDArray[Any]]:
    """Return the tensors of a safetensors file by name; each is of its type, or of one of its types.

    Raises ProtocolError where the file is larger, malformed, or holds other tensors.
    """
    if len(data) > most_bytes:
        raise ProtocolError(f"a safetensors file has {len(data)} bytes, allowed are {most_bytes}")
    try:
        tensors = dict(deserialize(data))  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise ProtocolError(f"what came is not safetensors: {error}") from error
    if tensors.keys() != types.keys():
        raise ProtocolError(f"tensors {sorted(tensors)[:12]} came, not {sorted(types)}")
    return {name: _array(name, tensor, types[name]) for name, tensor in tensors.items()}


def check_distributions(rows: npt.NDArray[np.float32], what: str) -> npt.NDArray[np.float32]:
    """Return rows [n, k] of numbers from 0 that sum to 1, rounding mended; raises ProtocolError."""
    if not rows.min() >= 0:
        raise ProtocolError(f"{what} are below 0")
    sums = rows.sum(axis=1, dtype=np.float32, keepdims=True)
    worst = float(np.abs(sums - 1).max())
    if not worst <= _ROW_SUM_TOLERANCE:
        raise ProtocolError(f"{what} miss a sum of 1 by {worst:.3g}")
    distributions: npt.NDArray[np.float32] = rows / sums
    return distributions


def _check_expectation(input_shape: Shape, classes: Sequence[ClassName]) -> None:
    elements = input_shape[0] * input_shape[1] * input_shape[2]
    if min(input_shape) < 1 or max(input_shape) > MAX_SIDE or elements > MAX_INPUT_ELEMENTS or not classes:
        raise ProtocolError(f"no synthetic batch can have inputs of {input_shape} and {len(classes)} classes")


def _array(name: str, tensor: dict[str, Any], allowed: str | Sequence[str]) -> npt.NDArray[Any]:
    types = (allowed,) if isinstance(allowed, str) else allowed
    if tensor["dtype"] not in types:
        raise ProtocolError(f"{name} are of type {tensor['dtype']}, allowed are {', '.join(types)}")
    # Beside a 0 the other sides are bound by nothing, and numpy takes 64 at most.
    if 0 in tensor["shape"]:
        raise ProtocolError(f"{name} are empty")
    if len(tensor["shape"]) > _MOST_DIMENSIONS:
        raise ProtocolError(f"{name} have {len(tensor['shape'])} dimensions")
    return np.frombuffer(tensor["data"], _DTYPES[tensor["dtype"]]).reshape(tensor["shape"])


def _fractions(array: npt.NDArray[Any], shape: tuple[int, ...], name: str) -> npt.NDArray[np.float32]:
    """Return `array` as float32 in [0, 1]."""
    if array.shape != shape:
        raise ProtocolError(f"a synthetic batch has {name} of shape {array.shape}, expected {shape}")
    numbers = array.astype(np.float32)
    if array.dtype == np.uint8:
        numbers /= np.float32(255)
    # NaN fails this comparison too.
    if not (numbers.min() >= 0 and numbers.max() <= 1):
        raise ProtocolError(f"a synthetic batch has {name} that are not numbers in [0, 1]")
    return numbers
