"""Gaussian mixtures."""

from __future__ import annotations

import numpy as np
import pytest

from qkt_p2p.synthesis.mixture import fit_mixture


def clusters(centres: list[tuple[float, float]], each: int = 100) -> np.ndarray:
    generator = np.random.default_rng(0)
    return np.concatenate([generator.normal(centre, 0.3, (each, 2)) for centre in centres])


@pytest.mark.parametrize(("centres", "size"), [([(0.0, 0.0)], 1), ([(-3.0, 0.0), (3.0, 1.0)], 2)])
def test_the_number_of_components_follows_the_data(centres: list[tuple[float, float]], size: int) -> None:
    """One cloud takes one Gaussian, two clouds take two, at the clouds' centres."""
    mixture = fit_mixture(clusters(centres), seed=1)
    found = sorted(tuple(mean) for mean in mixture.means.round(0).tolist())
    assert len(mixture.weights) == size
    assert found == sorted(centres)
    assert mixture.weights == pytest.approx(np.full(size, 1 / size), abs=0.02)


def test_samples_have_the_moments_of_the_data() -> None:
    """Mean and covariance of many samples are those of the points."""
    points = clusters([(-2.0, 1.0), (2.0, 0.0)], 400)
    drawn = fit_mixture(points, seed=0).sample(20_000, np.random.default_rng(5))
    assert drawn.mean(0) == pytest.approx(points.mean(0), abs=0.1)
    assert np.cov(drawn.T) == pytest.approx(np.cov(points.T), abs=0.1)


@pytest.mark.parametrize("points", [np.zeros((60, 3)), np.ones((1, 2)), np.eye(9)])
def test_degenerate_points_are_no_obstacle(points: np.ndarray) -> None:
    """Points that are alike, few, or fewer than dimensions still give finite samples."""
    drawn = fit_mixture(points, seed=0).sample(10, np.random.default_rng(0))
    assert drawn.shape == (10, points.shape[1])
    assert np.isfinite(drawn).all()
