"""Synthetic batches <-> bytes: a safetensors file of "inputs" and "targets", and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from qkt_p2p.errors import ProtocolError
from qkt_p2p.limits import MAX_CHUNK_BYTES, MAX_INPUT_ELEMENTS, MAX_SAMPLES_PER_CLASS, MAX_SIDE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qkt_p2p.types import ClassName, Shape

_DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "U8": np.dtype(np.uint8),
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
}
_ROW_SUM_TOLERANCE: Final = 0.02
"""Rows of float16 targets over a thousand classes sum to 1 within this."""


@dataclass(frozen=True, slots=True, eq=False)
class SyntheticBatch:
    """Inputs, float32 [n, C, H, W] in [0, 1], and targets, float32 [n, k], distributions over `classes`."""

    inputs: npt.NDArray[np.float32]
    targets: npt.NDArray[np.float32]
    classes: tuple[ClassName, ...]

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
    arrays = _arrays(data)
    samples = len(arrays["inputs"]) if arrays["inputs"].ndim else 0
    if not 1 <= samples <= MAX_SAMPLES_PER_CLASS * len(classes):
        raise ProtocolError(f"a synthetic batch holds {samples} samples")
    inputs = _checked(arrays["inputs"], (samples, *input_shape), "inputs")
    targets = _checked(arrays["targets"], (samples, len(classes)), "targets")
    sums = targets.sum(axis=1, dtype=np.float32, keepdims=True)
    worst = float(np.abs(sums - 1).max())
    if worst > _ROW_SUM_TOLERANCE:
        raise ProtocolError(f"a synthetic batch has targets that miss a sum of 1 by {worst:.3g}")
    return SyntheticBatch(inputs, targets / sums, tuple(classes))


def _check_expectation(input_shape: Shape, classes: Sequence[ClassName]) -> None:
    elements = input_shape[0] * input_shape[1] * input_shape[2]
    if min(input_shape) < 1 or max(input_shape) > MAX_SIDE or elements > MAX_INPUT_ELEMENTS or not classes:
        raise ProtocolError(f"no synthetic batch can have inputs of {input_shape} and {len(classes)} classes")


def _arrays(data: bytes) -> dict[str, npt.NDArray[Any]]:
    if len(data) > MAX_CHUNK_BYTES:
        raise ProtocolError(f"a synthetic batch has {len(data)} bytes, allowed are {MAX_CHUNK_BYTES}")
    try:
        tensors = dict(deserialize(data))  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise ProtocolError(f"a synthetic batch is not safetensors: {error}") from error
    if tensors.keys() != {"inputs", "targets"}:
        raise ProtocolError(f"a synthetic batch holds {sorted(tensors)[:8]}, not inputs and targets")
    return {name: _array(name, tensor) for name, tensor in tensors.items()}


def _array(name: str, tensor: dict[str, Any]) -> npt.NDArray[Any]:
    dtype = _DTYPES.get(tensor["dtype"])
    if dtype is None:
        raise ProtocolError(
            f"a synthetic batch has {name} of type {tensor['dtype']}, allowed are {', '.join(_DTYPES)}"
        )
    return np.frombuffer(tensor["data"], dtype).reshape(tensor["shape"])


def _checked(array: npt.NDArray[Any], shape: tuple[int, ...], name: str) -> npt.NDArray[np.float32]:
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
