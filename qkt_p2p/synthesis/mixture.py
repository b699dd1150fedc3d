"""Mixtures of Gaussians by expectation-maximization, their size chosen by the number of points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from qkt_p2p.synthesis.release import MIN_RELEASE_SAMPLES

if TYPE_CHECKING:
    from qkt_p2p.types import ReportDone

Array = npt.NDArray[np.float64]

_SIZES = (1, 2, 4, 8)
_SAMPLES_PER_COMPONENT = 10
_POOLED_SAMPLES = 10
_ITERATIONS = 25
_VARIANCE_FLOOR = 1e-6
_FACTOR_NUMBERS = 2**20
"""Numbers in the factors of points that are drawn at once: 8 MiB, those of 655 points in 40 dimensions."""


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """k Gaussians in r dimensions: weights [k], means [k, r], lower Cholesky factors [k, r, r]."""

    weights: Array
    means: Array
    factors: Array

    def sample(self, count: int, generator: np.random.Generator) -> tuple[Array, npt.NDArray[np.int64]]:
        """Return `count` points [count, r], and the number of the Gaussian that each is from."""
        component = generator.choice(len(self.weights), size=count, p=self.weights / self.weights.sum())
        noise = generator.standard_normal((count, self.means.shape[1]))
        points: Array = self.means[component]
        step = max(1, _FACTOR_NUMBERS // self.factors[0].size)
        for start in range(0, count, step):
            cut = slice(start, start + step)
            points[cut] += np.einsum("nij,nj->ni", self.factors[component[cut]], noise[cut])
        return points, component

    def responsibilities(self, points: Array) -> Array:
        """Return each Gaussian's share [n, k] of each of `points` [n, r]."""
        joint = _log_joint(self, points)
        shares: Array = np.exp(joint - np.logaddexp.reduce(joint, axis=1, keepdims=True))
        return shares

    def without(self, component: int) -> Mixture:
        """Return the mixture of all other Gaussians."""
        weights = np.delete(self.weights, component)
        means, factors = (np.delete(array, component, axis=0) for array in (self.means, self.factors))
        return Mixture(weights / weights.sum(), means, factors)


def fit_mixture(points: Array, *, seed: int, report: ReportDone = lambda *_: None) -> Mixture:
    """Return Gaussians of which each stands for `MIN_RELEASE_SAMPLES` of `points` [n, r] or more.

    It starts with the most of 1, 2, 4 or 8 that get 10 points each, in mean; the one that stands for the
    fewest is left out until none stands for too few, or there is one alone. Raises what `report` raises,
    which is told before each iteration.
    """
    affordable = [size for size in _SIZES if size * _SAMPLES_PER_COMPONENT <= len(points)]
    responsibilities = _initial_responsibilities(points, max(affordable, default=1), seed)
    while True:
        mixture = _converged(points, responsibilities, report)
        if len(mixture.weights) == 1 or mixture.weights.min() * len(points) >= MIN_RELEASE_SAMPLES:
            return mixture
        responsibilities = mixture.without(int(mixture.weights.argmin())).responsibilities(points)


def _converged(points: Array, responsibilities: Array, report: ReportDone) -> Mixture:
    mixture = _maximize(points, responsibilities)
    if len(mixture.weights) > 1:
        for done in range(_ITERATIONS):
            report(done, _ITERATIONS, f"fitting {len(mixture.weights)} Gaussians")
            mixture = _maximize(points, mixture.responsibilities(points))
    return mixture


def _initial_responsibilities(points: Array, size: int, seed: int) -> Array:
    """Return one-hot responsibilities [n, size] to centres picked far apart (k-means++)."""
    generator = np.random.default_rng(seed)
    centres = points[[generator.integers(len(points))]]
    while len(centres) < size:
        distances = ((points[:, None] - centres) ** 2).sum(2).min(1)
        chances = distances / distances.sum() if distances.sum() > 0 else None
        centres = np.vstack([centres, points[generator.choice(len(points), p=chances)]])
    nearest = ((points[:, None] - centres) ** 2).sum(2).argmin(1)
    one_hot: Array = np.eye(size)[nearest]
    return one_hot


def _maximize(points: Array, responsibilities: Array) -> Mixture:
    """Return the mixture of greatest likelihood, its covariances shrunk.

    A variance counts as much as 10 points of the pooled one, and a Gaussian of n_k points keeps a share
    n_k / (r + n_k) of its correlations: that keeps a component of few points from collapsing onto them.
    """
    dimensions = points.shape[1]
    counts = responsibilities.sum(0) + 1e-9
    means = responsibilities.T @ points / counts[:, None]
    covariances = np.empty((len(counts), dimensions, dimensions))
    for k, count in enumerate(counts):
        centred = points - means[k]
        covariances[k] = (responsibilities[:, k, None] * centred).T @ centred / count
    covariances += _VARIANCE_FLOOR * np.eye(dimensions)
    found = np.einsum("kii->ki", covariances)
    pooled = counts / counts.sum() @ found
    trust = (counts / (counts + _POOLED_SAMPLES))[:, None]
    variances = trust * found + (1 - trust) * pooled
    scales = np.sqrt(variances / found)
    kept = (counts / (counts + dimensions))[:, None, None]
    shrunk = kept * covariances * scales[:, :, None] * scales[:, None, :]
    shrunk[:, range(dimensions), range(dimensions)] = variances
    return Mixture(counts / counts.sum(), means, np.linalg.cholesky(shrunk))


def _log_joint(mixture: Mixture, points: Array) -> Array:
    """Return log(weight * density) [n, k]."""
    joint = np.empty((len(points), len(mixture.weights)))
    for k, factor in enumerate(mixture.factors):
        whitened = np.linalg.solve(factor, (points - mixture.means[k]).T)
        volume = np.log(np.diag(factor)).sum()
        joint[:, k] = np.log(mixture.weights[k]) - volume - 0.5 * (whitened**2).sum(0)
    log_joint: Array = joint - 0.5 * points.shape[1] * np.log(2 * np.pi)
    return log_joint
