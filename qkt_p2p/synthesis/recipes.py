"""A class as a recipe: a mixture of Gaussians over its principal axes, and what these leave out."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from qkt_p2p.synthesis.mixture import Mixture, fit_mixture
from qkt_p2p.synthesis.targets import masked_targets
from qkt_p2p.wire.recipes import Recipe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qkt_p2p.synthesis.release import Statistics
    from qkt_p2p.types import ClassName, ReportDone

USUAL_RANK: Final = 40
"""Principal axes at most; more are hardly better, for more bytes (docs/method.md)."""

_EXPLAINED = 0.95
_LEAST_SPREAD = 1e-4

_RAREST: Final = 0.9
"""Of its largest deviation, by how much a number is moved down at most: a sample or two stay above 0."""
_HALVINGS: Final = 12

_PART_NUMBERS: Final = 2**22
"""Numbers of a class's samples that are worked on at once where all would take too much memory: 32 MiB."""
_ALIGNED: Final = 256

_EXACT_SAMPLES: Final = 1024
"""Samples of which the axes are found exactly; that takes a second or two, and cannot be given up."""
_TURNS: Final = 2
"""How often the axes of some samples are turned towards those of all; more gain nothing (docs/method.md)."""
_MIXED_SAMPLES: Final = 8192
"""Samples at most that Gaussians are fitted to; far more than eight of them need."""

Samples = npt.NDArray[np.float32]


def fit_recipe(
    samples: npt.NDArray[np.float32],
    answers: npt.NDArray[np.float32],
    *,
    rank: int,
    seed: int,
    report: ReportDone = lambda *_: None,
) -> Statistics:
    """Return the statistics of a class: samples [n, ...] with the model's answers [n, c] to them.

    The axes explain 95 % of the variance, with at most `rank` of them. Each Gaussian keeps the mean answer to
    its samples. The statistics have not passed the release gate yet. Raises what `report` raises, which is
    told on the way where there are many samples.
    """
    centred = samples.reshape(len(samples), -1).astype(np.float64)
    mean = centred.mean(0)
    # In place, as all is below that would take as much memory again.
    centred -= mean
    few = len(centred) <= _EXACT_SAMPLES
    basis = _principal_axes(centred, rank) if few else _axes_of_many(centred, rank, report)
    points = centred @ basis.T
    mixture = fit_mixture(_spaced(points, _MIXED_SAMPLES), seed=seed, report=report)
    shares = mixture.responsibilities(points)
    statistics = {
        "mean": mean,
        "basis": basis,
        "residual": _residual(centred, points, basis),
        "weights": mixture.weights,
        "means": mixture.means,
        "factors": mixture.factors,
        "answers": shares.T @ answers / (shares.sum(0)[:, None] + 1e-9),
    }
    return {name: array.astype(np.float32) for name, array in statistics.items()}


def masked_recipe(
    statistics: Statistics, label: ClassName, *, classes: Sequence[ClassName], mask: Sequence[ClassName]
) -> Recipe:
    """Return what the mask lets through of a class's statistics; `classes` are those of the answers."""
    labels = np.full(len(statistics["weights"]), mask.index(label))
    targets = masked_targets(statistics["answers"], labels, classes=classes, mask=mask)
    return Recipe(targets=targets, **{name: array for name, array in statistics.items() if name != "answers"})


def draw(
    recipe: Recipe, count: int, *, low: float, high: float, deviations: Samples, seed: int
) -> tuple[Samples, npt.NDArray[np.float32]]:
    """Return `count` samples [count, d] within bounds, and their targets [count, c].

    What the axes leave out looks as it does in `deviations` [n, d], those of real samples from their class's
    mean: there neighbouring numbers go together, while independent noise would be averaged away by whatever
    learns from the samples. Numbers that are bounded by 0 alone are rectified rather than cut off there.
    """
    generator = np.random.default_rng(seed)
    mixture = Mixture(*(array.astype(np.float64) for array in (recipe.weights, recipe.means, recipe.factors)))
    points, component = mixture.sample(count, generator)
    samples = points.astype(np.float32) @ recipe.basis + recipe.mean
    samples += recipe.residual * textured(_left_out(recipe.basis, deviations), samples.shape, generator)
    return bounded(samples, low, high), recipe.targets[component]


def bounded(samples: Samples, low: float, high: float) -> Samples:
    """Return samples [n, d] within bounds; those bounded by 0 alone are rectified, not cut off there."""
    if (low, high) == (0, np.inf):
        samples = _rectified(samples)
    return samples.clip(low, high)


def textured(deviations: Samples, shape: tuple[int, int], generator: np.random.Generator) -> Samples:
    """Return samples of `shape` [count, d] that look as `deviations` [n, d] do, each number of deviation 1.

    Two of them are mixed at a random angle, which keeps how numbers go together and repeats nobody's sample.
    Numbers that never deviate get independent noise.
    """
    noise = generator.standard_normal(shape, np.float32)
    if not len(deviations):
        return noise
    spread = deviations.std(0)
    one, other = deviations[generator.integers(len(deviations), size=(2, len(noise)))]
    angle = generator.uniform(0, np.pi / 2, (len(noise), 1)).astype(np.float32)
    mixed = one * np.cos(angle) + other * np.sin(angle)
    # A column that should be 0 throughout is so but for rounding.
    varying = spread > _LEAST_SPREAD
    return np.where(varying, mixed / np.where(varying, spread, 1), noise)


def _left_out(basis: Samples, deviations: Samples) -> Samples:
    """Return what `deviations` [n, d] have beside the axes [r, d]; they may be none."""
    if not len(deviations):
        return deviations
    axes = np.linalg.qr(basis.T)[0]
    left: Samples = deviations - (deviations @ axes) @ axes.T
    return left


def _rectified(samples: Samples) -> Samples:
    """Return samples [n, d] that are not negative, of the same mean and deviation in each number.

    What was cut off at 0 alone would have a greater mean, and be 0 only half as often as what a rectifier
    leaves behind. So each number is moved before it is cut, and scaled after: the further down, the greater
    its deviation is beside its mean.
    """
    drawn_mean, spread = samples.mean(0), samples.std(0).clip(_LEAST_SPREAD)
    standard, mean = (samples - drawn_mean) / spread, drawn_mean.clip(_LEAST_SPREAD)
    least, most = -_RAREST * standard.max(0), mean / spread
    for _ in range(_HALVINGS):
        middle = (least + most) / 2
        cut = np.maximum(standard + middle, 0)
        too_low = cut.std(0) * mean > spread * cut.mean(0)
        least, most = np.where(too_low, middle, least), np.where(too_low, most, middle)
    cut = np.maximum(standard + most, 0)
    kept: Samples = cut * (mean / cut.mean(0).clip(_LEAST_SPREAD))
    return np.where(samples.min(0) < 0, kept, samples)


def _principal_axes(
    centred: npt.NDArray[np.float64], most: int, explained: float = _EXPLAINED
) -> npt.NDArray[np.float64]:
    """Return the leading principal axes [r, d] of centred samples [n, d]; one at least."""
    count, numbers = centred.shape
    if count < numbers:
        # The same axes from the smaller matrix of inner products.
        energy, vectors = np.linalg.eigh(centred @ centred.T)
        energy, vectors = energy[::-1].clip(0), vectors[:, ::-1]
        rank = _explaining(energy, explained * np.cumsum(energy)[-1], most)
        # A product with the leading vectors alone may be rounded otherwise; copied, as a view would keep all.
        leading = np.hstack([(vectors.T @ centred[:, cut])[:rank].copy() for cut in _cuts(centred)])
        leading /= np.linalg.norm(leading, axis=1, keepdims=True) + 1e-12
    else:
        _, singular, axes = np.linalg.svd(centred, full_matrices=False)
        energy = singular**2
        leading = axes[: _explaining(energy, explained * np.cumsum(energy)[-1], most)]
    return leading


def _axes_of_many(centred: npt.NDArray[np.float64], most: int, report: ReportDone) -> npt.NDArray[np.float64]:
    """Return what `_principal_axes` does of any number of samples, nearly, in time that grows as they do.

    The axes of some samples are turned towards those of all by subspace iteration (Halko, Martinsson, Tropp
    2011). Raises what `report` raises, which is told before each part.
    """
    axes = _principal_axes(_spaced(centred, _EXACT_SAMPLES), most, explained=1.0)
    parts = [centred[at : at + _EXACT_SAMPLES] for at in range(0, len(centred), _EXACT_SAMPLES)]
    for turn in range(_TURNS):
        turned = np.zeros_like(axes)
        for done, part in enumerate(parts):
            report(turn * len(parts) + done, _TURNS * len(parts), "finding principal axes")
            turned += (part @ axes.T).T @ part
        axes = np.linalg.qr(turned.T)[0].T
    # Along the principal axes within their span there are no correlations.
    energy, vectors = np.linalg.eigh(sum((axes @ part.T) @ (part @ axes.T) for part in parts))
    total = sum(float((part**2).sum()) for part in parts)
    rank = _explaining(energy[::-1], _EXPLAINED * total, most)
    leading: npt.NDArray[np.float64] = vectors.T[::-1][:rank] @ axes
    return leading


def _explaining(energy: npt.NDArray[np.float64], enough: float, most: int) -> int:
    """Return how many axes of falling `energy` come to `enough` of it, `most` at most."""
    return min(int(np.searchsorted(np.cumsum(energy), enough)) + 1, most)


def _spaced(samples: npt.NDArray[np.float64], most: int) -> npt.NDArray[np.float64]:
    """Return samples [n, ...] at equal spaces, `most` at most, without a copy."""
    return samples[:: -(-len(samples) // most)]


def _residual(
    centred: npt.NDArray[np.float64], points: npt.NDArray[np.float64], basis: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the deviation [d] of what is left of samples [n, d] beside their points [n, r] on the axes."""
    return np.concatenate([(centred[:, cut] - points @ basis[:, cut]).std(0) for cut in _cuts(centred)])


def _cuts(samples: npt.NDArray[np.float64]) -> list[slice]:
    """Return parts of the numbers of samples [n, d] that are worked on one after the other.

    Parts are wide, and begin at a multiple of 256, where products are rounded as in the whole.
    """
    count, numbers = samples.shape
    width = max(1, _PART_NUMBERS // count // _ALIGNED) * _ALIGNED
    edges = [*range(0, max(1, numbers - width + 1), width), numbers]
    return [slice(start, stop) for start, stop in pairwise(edges)]
