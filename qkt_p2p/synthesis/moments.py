"""The medium `moments`: a mixture of Gaussians per class, in a PCA space of the class's own inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from qkt_p2p.synthesis.mixture import Mixture, fit_mixture

if TYPE_CHECKING:
    from qkt_p2p.synthesis.release import Statistics
    from qkt_p2p.types import MediumName, Shape

_EXPLAINED = 0.95
_MAX_RANK = 48


class Moments:
    """Fits a class where its inputs vary, and adds back per element the variance that this leaves out."""

    name: Final[MediumName] = "moments"

    def fit(self, inputs: npt.NDArray[np.float32], *, seed: int) -> Statistics:
        """Return mean [d], basis [r, d], residual deviation [d] and the mixture in r dimensions.

        r explains 95 % of the variance, with at most 48 dimensions.
        """
        flat = inputs.reshape(len(inputs), -1).astype(np.float64)
        mean = flat.mean(0)
        basis = _principal_axes(flat - mean)
        points = (flat - mean) @ basis.T
        residual = (flat - mean - points @ basis).std(0)
        mixture = fit_mixture(points, seed=seed)
        statistics = {
            "mean": mean,
            "basis": basis,
            "residual": residual,
            "weights": mixture.weights,
            "means": mixture.means,
            "factors": mixture.factors,
        }
        return {name: array.astype(np.float32) for name, array in statistics.items()}

    def sample(
        self, statistics: Statistics, count: int, *, shape: Shape, seed: int
    ) -> npt.NDArray[np.float32]:
        """Return `count` synthetic inputs [count, C, H, W], clipped to [0, 1]."""
        generator = np.random.default_rng(seed)
        parts = {name: array.astype(np.float64) for name, array in statistics.items()}
        mixture = Mixture(parts["weights"], parts["means"], parts["factors"])
        flat = parts["mean"] + mixture.sample(count, generator) @ parts["basis"]
        flat += parts["residual"] * generator.standard_normal(flat.shape)
        return flat.clip(0, 1).astype(np.float32).reshape(count, *shape)


def _principal_axes(centred: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the leading principal axes [r, d] of centred inputs [n, d]."""
    _, singular, axes = np.linalg.svd(centred, full_matrices=False)
    energy = np.cumsum(singular**2)
    rank = int(np.searchsorted(energy, _EXPLAINED * energy[-1])) + 1
    return axes[: min(rank, _MAX_RANK)]
