"""Recipes <-> bytes: what describes a class, so that whoever holds it can draw synthetic samples.

A class is a mixture of Gaussians over its principal axes. What is large of it travels as whole numbers of
steps. Steps are as coarse as drawn samples can bear: rounding adds to each axis the same error, in all a
share of what the axes leave out anyway (reverse water-filling). Most numbers are then near 0, and compress
to a fraction of their 8 bits (`wire/encodings.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt
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
"""Largest number in a recipe."""

_BASIS_ERROR: Final = 0.03
_FACTORS_ERROR: Final = 0.01
_MEAN_ERROR: Final = 0.005
"""Variance that rounding adds to a drawn number, as shares of that which the axes leave out, by measurement
(docs/method.md)."""

_DEVIATION_LEVELS: Final = 63


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
    """Return a recipe as a safetensors file, the same for the same arrays.

    Numbers are rounded; what that takes from, or adds to, the deviations of samples is mended in `residual`.
    """
    rank, numbers = recipe.basis.shape
    left_out = float((recipe.residual.astype(np.float64) ** 2).mean())
    spread = np.sqrt(np.diag(_covariance(recipe)).clip(np.finfo(np.float32).tiny))
    rows, columns = np.tril_indices(rank)
    mean, mean_step = _rounded(recipe.mean[None], _step(_MEAN_ERROR * left_out))
    basis, basis_steps = _rounded(recipe.basis, _step(_BASIS_ERROR * left_out / rank) / spread)
    by_row = recipe.factors.transpose(1, 0, 2).reshape(rank, -1)
    factors, factor_steps = _rounded(by_row, _step(_FACTORS_ERROR * left_out * numbers / len(rows)))
    sent = replace(
        recipe,
        basis=basis * basis_steps[:, None],
        factors=_rows_first(factors * factor_steps[:, None], len(recipe.weights)),
    )
    residual = np.sqrt((recipe.residual**2 + _variances(recipe) - _variances(sent)).clip(0))
    deviations, deviation_step = _rounded(residual[None], residual.max(initial=0) / _DEVIATION_LEVELS)
    arrays: dict[str, npt.NDArray[Any]] = {
        "basis": basis,
        "mean": mean[0],
        "residual": deviations[0],
        "factors": _rows_first(factors, len(recipe.weights))[:, rows, columns],
        "steps": np.concatenate([mean_step, deviation_step, basis_steps, factor_steps]),
        "means": recipe.means.astype(np.float16),
        "weights": recipe.weights.astype(np.float32),
        "targets": recipe.targets.astype(np.float16),
    }
    return bytes(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))


def decode_recipe(data: bytes, *, numbers: int, classes: Sequence[ClassName]) -> Recipe:
    """Return the recipe in `data`, of samples of so many `numbers` and targets over `classes`.

    Raises ProtocolError for anything else: other tensors, types or shapes, numbers that are not finite or out
    of bounds, weights or targets that are no distribution, more than limits.py allows.
    """
    arrays = tensors_of(data, _TYPES)
    # A tensor may have no dimension at all, and then no length.
    rank, components = (sum(arrays[name].shape[:1]) for name in ("basis", "weights"))
    if not (1 <= rank <= min(MAX_RECIPE_RANK, numbers) and 1 <= components <= MAX_RECIPE_COMPONENTS):
        raise ProtocolError(f"a recipe of {numbers} numbers has {rank} axes and {components} Gaussians")
    shapes = {
        "mean": (numbers,),
        "basis": (rank, numbers),
        "residual": (numbers,),
        "factors": (components, rank * (rank + 1) // 2),
        "steps": (2 + 2 * rank,),
        "means": (components, rank),
        "weights": (components,),
        "targets": (components, len(classes)),
    }
    checked = {name: _checked(arrays[name], shape, name) for name, shape in shapes.items()}
    mean_step, deviation_step, basis_steps, factor_steps = np.split(checked["steps"], [1, 2, 2 + rank])
    factors = np.zeros((components, rank, rank), np.float32)
    rows, columns = np.tril_indices(rank)
    factors[:, rows, columns] = checked["factors"]
    return Recipe(
        mean=checked["mean"] * mean_step,
        basis=checked["basis"] * basis_steps[:, None],
        residual=_not_negative(checked["residual"] * deviation_step, "residual"),
        weights=check_distributions(checked["weights"][None], "weights")[0],
        means=checked["means"],
        factors=factors * factor_steps[:, None],
        targets=check_distributions(checked["targets"], "targets"),
    )


_TYPES: Final = {
    "mean": "I8",
    "basis": "I8",
    "residual": "I8",
    "factors": "I8",
    "steps": "F32",
    "means": "F16",
    "weights": "F32",
    "targets": "F16",
}


def _step(variance: float) -> float:
    """Return the step that rounds numbers with an error of that variance."""
    return sqrt(12 * variance)


def _rounded(rows: Array, steps: float | npt.NDArray[Any]) -> tuple[npt.NDArray[np.int8], Array]:
    """Return `rows` [r, n] in whole numbers of steps [r], which are made to fit into 8 bits."""
    largest = np.abs(rows).max(axis=1, initial=0)
    # A step beyond the largest number would leave nothing of a row.
    fitting = np.clip(steps, largest / _LEVELS, largest).astype(np.float32)
    whole = np.round(rows / np.where(fitting > 0, fitting, 1)[:, None])
    # The smallest of float32's numbers are too few for a step of theirs to fit exactly.
    return whole.clip(-_LEVELS, _LEVELS).astype(np.int8), fitting


def _rows_first(by_row: npt.NDArray[Any], components: int) -> npt.NDArray[Any]:
    """Return factors [k, r, r] from their rows [r, k * r]."""
    rank = len(by_row)
    return by_row.reshape(rank, components, rank).transpose(1, 0, 2)


def _covariance(recipe: Recipe) -> npt.NDArray[np.float64]:
    """Return the covariance [r, r] of the mixture's points."""
    weights, means, factors = (
        array.astype(np.float64) for array in (recipe.weights, recipe.means, recipe.factors)
    )
    centred = means - weights @ means
    within = np.einsum("k,kij,klj->il", weights, factors, factors)
    covariance: npt.NDArray[np.float64] = within + (weights[:, None] * centred).T @ centred
    return covariance


def _variances(recipe: Recipe) -> npt.NDArray[np.float64]:
    """Return the variance [d] along each number that the axes explain."""
    variances: npt.NDArray[np.float64] = ((_covariance(recipe) @ recipe.basis) * recipe.basis).sum(0)
    return variances


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
