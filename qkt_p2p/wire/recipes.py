"""Recipes <-> bytes: what describes a class, so that whoever holds it can draw synthetic samples.

A class is a mixture of Gaussians over its principal axes. The axes are most of the bytes and travel as
8-bit numbers with a scale for each; everything else travels as float16 or float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from qkt_p2p.errors import ProtocolError
from qkt_p2p.limits import MAX_RECIPE_COMPONENTS, MAX_RECIPE_RANK
from qkt_p2p.wire.tensors import check_distributions, tensors_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qkt_p2p.types import ClassName

Array = npt.NDArray[np.float32]

_LEVELS: Final = 127
_MOST: Final = 1e5
"""Largest number in a recipe; float16 ends below it."""


@dataclass(frozen=True, slots=True, eq=False)
class Recipe:
    """A class in d numbers per sample: k Gaussians over r principal axes, and what the axes leave out.

    `mean` and `residual` (a standard deviation) are [d], `basis` [r, d], `weights` [k], `means` [k, r],
    `factors` [k, r, r] lower Cholesky factors, `targets` [k, c] a distribution over the mask's c classes for
    each Gaussian.
    """

    mean: Array
    basis: Array
    residual: Array
    weights: Array
    means: Array
    factors: Array
    targets: Array


def encode_recipe(recipe: Recipe) -> bytes:
    """Return a recipe as a safetensors file, the same for the same arrays."""
    scales = np.abs(recipe.basis).max(axis=1, initial=0) / np.float32(_LEVELS)
    steps = np.round(recipe.basis / np.where(scales > 0, scales, 1)[:, None])
    rows, columns = np.tril_indices(len(recipe.basis))
    arrays: dict[str, npt.NDArray[Any]] = {
        "mean": recipe.mean.astype(np.float16),
        "basis": steps.astype(np.int8),
        "scales": scales.astype(np.float32),
        "residual": recipe.residual.astype(np.float16),
        "weights": recipe.weights.astype(np.float32),
        "means": recipe.means.astype(np.float32),
        "factors": recipe.factors[:, rows, columns].astype(np.float16),
        "targets": recipe.targets.astype(np.float16),
    }
    return bytes(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))


def decode_recipe(data: bytes, *, numbers: int, classes: Sequence[ClassName]) -> Recipe:
    """Return the recipe in `data`, of samples of so many `numbers` and targets over `classes`.

    Raises ProtocolError for anything else: other tensors, types or shapes, numbers that are not finite or out
    of bounds, weights or targets that are no distribution, more than limits.py allows.
    """
    arrays = tensors_of(data, _TYPES)
    rank, components = len(arrays["basis"]), len(arrays["weights"])
    if not (1 <= rank <= MAX_RECIPE_RANK and 1 <= components <= MAX_RECIPE_COMPONENTS):
        raise ProtocolError(f"a recipe has {rank} axes and {components} Gaussians")
    shapes = {
        "mean": (numbers,),
        "basis": (rank, numbers),
        "scales": (rank,),
        "residual": (numbers,),
        "weights": (components,),
        "means": (components, rank),
        "factors": (components, rank * (rank + 1) // 2),
        "targets": (components, len(classes)),
    }
    checked = {name: _checked(arrays[name], shape, name) for name, shape in shapes.items()}
    factors = np.zeros((components, rank, rank), np.float32)
    rows, columns = np.tril_indices(rank)
    factors[:, rows, columns] = checked["factors"]
    return Recipe(
        mean=checked["mean"],
        basis=checked["basis"] * checked["scales"][:, None],
        residual=_not_negative(checked["residual"], "residual"),
        weights=check_distributions(checked["weights"][None], "weights")[0],
        means=checked["means"],
        factors=factors,
        targets=check_distributions(checked["targets"], "targets"),
    )


_TYPES: Final = {
    "mean": "F16",
    "basis": "I8",
    "scales": "F32",
    "residual": "F16",
    "weights": "F32",
    "means": "F32",
    "factors": "F16",
    "targets": "F16",
}


def _checked(array: npt.NDArray[Any], shape: tuple[int, ...], name: str) -> Array:
    """Return `array` as float32 of a shape; NaN fails the comparison too."""
    if array.shape != shape:
        raise ProtocolError(f"a recipe has {name} of shape {array.shape}, expected {shape}")
    numbers = array.astype(np.float32)
    if not np.abs(numbers).max() <= _MOST:
        raise ProtocolError(f"a recipe has {name} that are not finite numbers up to {_MOST:g}")
    return numbers


def _not_negative(array: Array, name: str) -> Array:
    if array.min() < 0:
        raise ProtocolError(f"a recipe has {name} below 0")
    return array
