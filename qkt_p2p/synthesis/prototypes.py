"""A class as a prototype: what a teacher with a privacy budget releases in place of a recipe.

Each sample is scaled to length 1, so that adding or removing one changes their sum by 1 at most, whatever an
asker's stem makes of it; sum and count get Gaussian noise. How long samples are, how they deviate from the
mean of their class, and in which directions classes may differ at all, the asker knows of its own samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import hypot, inf
from random import SystemRandom
from typing import TYPE_CHECKING, Final

import numpy as np

from qkt_p2p.synthesis.recipes import bounded, textured
from qkt_p2p.wire.prototypes import Prototype

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from qkt_p2p.synthesis.medium import Reading
    from qkt_p2p.types import ReportDone

    Samples = npt.NDArray[np.float32]
    Array = npt.NDArray[np.float64]

_COUNT_WEIGHT: Final = 0.5
"""Of a sample in the count, beside 1 in the sum: the count's noise is then a small part of the mean's."""

CLEAR: Final = 1.0
"""Least clearness of a prototype that is learned from: that of noise alone. A higher mark cost classes that
were learned for the most part (docs/privacy.md)."""

_LEAST_WITHIN: Final = 1e-3
"""Of a variance, at least: own classes may lie apart along an axis and hardly deviate along it."""

_PART_SAMPLES: Final = 1024
_LARGEST: Final = 60_000.0
"""Numbers travel as float16."""


def fit_prototype(
    inputs: Samples, enter: Callable[[Samples], Samples], *, mu: float, report: ReportDone = lambda *_: None
) -> Prototype:
    """Return the prototype of inputs [n, C, H, W] in the space that `enter` takes them to, which is mu-GDP.

    That is for adding or removing one of them; `mu` is that of privacy/accountant.py. Noise comes from the
    system's secure generator: another call gives another prototype. Raises what `enter` and `report` raise.
    """
    total: Array = np.zeros(())
    for at in range(0, len(inputs), _PART_SAMPLES):
        report(at, len(inputs), "adding up samples")
        total = total + _unit(enter(inputs[at : at + _PART_SAMPLES])).sum(0)
    deviation = hypot(1.0, _COUNT_WEIGHT) / mu
    noisy = total + _noise(total.size, deviation)
    count = max(1.0, len(inputs) + _noise(1, deviation / _COUNT_WEIGHT)[0])
    direction = (noisy / count).clip(-_LARGEST, _LARGEST)
    return Prototype(direction.astype(np.float32), noise=deviation / count)


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What an asker knows of a space by its own `samples` [n, d] in it, of which there is one at least.

    `deviations` [n, d] are those from the mean of their class.
    """

    samples: Samples
    deviations: Samples

    @cached_property
    def length(self) -> float:
        """Median length of a sample."""
        return float(np.median(np.linalg.norm(self.samples, axis=1)))

    def believed(self, prototype: Prototype) -> Array:
        """Return the mean [d] that is likeliest of a class of which a prototype came.

        Classes differ as samples do: along each principal axis the prototype counts as much as its noise lets
        it (Wiener's filter), and beside all axes not at all.
        """
        mean, axes, _ = self._axes
        shift, _ = self._filtered(prototype)
        likeliest: Array = mean + shift @ axes
        return likeliest

    def clearness(self, prototype: Prototype) -> float:
        """Return how many times as far, squared, its class lies from own samples' mean as noise alone would.

        What tells classes apart is distance by how much samples of one class deviate (Mahalanobis). Of a
        prototype that is nothing but noise it is about 1.
        """
        shift, noise = self._filtered(prototype)
        distance, by_noise = (float((each**2 / self._within).sum()) for each in (shift, noise))
        return distance / by_noise if by_noise else inf if distance else 0.0

    def _filtered(self, prototype: Prototype) -> tuple[Array, Array]:
        """Return what is believed of a prototype along the axes [r], and the deviation of noise in that."""
        mean, axes, variances = self._axes
        noise = prototype.noise * self.length
        kept = variances / (variances + noise**2)
        return kept * (axes @ (prototype.direction * self.length - mean)), kept * noise

    @cached_property
    def _within(self) -> Array:
        """Variances [r] of samples from the mean of their class, along the axes."""
        _, axes, variances = self._axes
        within: Array = ((self.deviations @ axes.T) ** 2).mean(0)
        return np.maximum(within, _LEAST_WITHIN * variances)

    @cached_property
    def _axes(self) -> tuple[Array, Array, Array]:
        """Mean [d], principal axes [r, d] and the variances [r] along them."""
        mean = self.samples.mean(0, dtype=np.float64)
        _, singular, axes = np.linalg.svd(self.samples - mean, full_matrices=False)
        variances = singular**2 / len(self.samples)
        some = variances > np.finfo(np.float32).eps * variances.max(initial=0.0)
        return mean, axes[some], variances[some]


def draw_of_prototype(prototype: Prototype, reading: Reading, *, seed: int) -> Samples:
    """Return `reading.count` samples [count, d] about a prototype, which look as the asker's own do."""
    deviations = reading.own.deviations
    mean = reading.own.believed(prototype).astype(np.float32).clip(reading.low, reading.high)
    samples = mean + deviations.std(0) * textured(
        deviations, (reading.count, len(mean)), np.random.default_rng(seed)
    )
    return bounded(samples, reading.low, reading.high)


def _unit(samples: Samples) -> Array:
    """Return samples [n, ...] as rows [n, d] of length 1, or 0 where one has no length that is a number."""
    rows = samples.reshape(len(samples), -1).astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    fit = np.isfinite(lengths) & (lengths > 0)
    unit: Array = np.where(fit, rows, 0.0) / np.where(fit, lengths, 1.0)
    return unit


def _noise(numbers: int, deviation: float) -> Array:
    """Return Gaussian noise [numbers] that nobody can guess, from what they see of it, either."""
    generator = SystemRandom()
    return np.array([generator.gauss(0.0, deviation) for _ in range(numbers)])
