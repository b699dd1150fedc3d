"""Mixtures of Gaussians by expectation-maximization, their size chosen by the number of points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_SIZES = (1, 2, 4, 8)
_SAMPLES_PER_COMPONENT = 24
_ITERATIONS = 25
_VARIANCE_FLOOR = 1e-6


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
        points: Array = self.means[component] + np.einsum("nij,nj->ni", self.factors[component], noise)
        return points, component

    def responsibilities(self, points: Array) -> Array:
        """Return each Gaussian's share [n, k] of each of `points` [n, r]."""
        joint = _log_joint(self, points)
        shares: Array = np.exp(joint - np.logaddexp.reduce(joint, axis=1, keepdims=True))
        return shares


def fit_mixture(points: Array, *, seed: int) -> Mixture:
    """Return a mixture of the most Gaussians, 1, 2, 4 or 8, that get 24 of `points` [n, r] each, in mean."""
    affordable = [size for size in _SIZES if size * _SAMPLES_PER_COMPONENT <= len(points)]
    return _fit(points, max(affordable, default=1), seed)


def _fit(points: Array, size: int, seed: int) -> Mixture:
    if size == 1:
        return _maximize(points, np.ones((len(points), 1)))
    mixture = _maximize(points, _initial_responsibilities(points, size, seed))
    for _ in range(_ITERATIONS):
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
    """Return the mixture of greatest likelihood, its covariances shrunk towards the pooled diagonal.

    The shrinkage r / (r + n_k) keeps a component of few points from collapsing onto them.
    """
    dimensions = points.shape[1]
    counts = responsibilities.sum(0) + 1e-9
    means = responsibilities.T @ points / counts[:, None]
    covariances = np.empty((len(counts), dimensions, dimensions))
    for k, count in enumerate(counts):
        centred = points - means[k]
        covariances[k] = (responsibilities[:, k, None] * centred).T @ centred / count
    pooled = np.einsum("k,kii->i", counts / counts.sum(), covariances)
    shrinkage = (dimensions / (dimensions + counts))[:, None, None]
    shrunk = (
        (1 - shrinkage) * covariances + shrinkage * np.diag(pooled) + _VARIANCE_FLOOR * np.eye(dimensions)
    )
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
