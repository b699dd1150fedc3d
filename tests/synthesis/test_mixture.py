"""Gaussian mixtures."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from qkt_p2p.errors import CancelledError
from qkt_p2p.synthesis.mixture import Mixture, fit_mixture
from qkt_p2p.synthesis.release import MIN_RELEASE_SAMPLES


def clusters(centres: list[tuple[float, float]], each: int = 100) -> np.ndarray:
    generator = np.random.default_rng(0)
    return np.concatenate([generator.normal(centre, 0.3, (each, 2)) for centre in centres])


@pytest.mark.parametrize(
    ("clouds", "each", "size"),
    [(1, 1, 1), (1, 19, 1), (2, 10, 2), (3, 10, 2), (4, 10, 4), (7, 11, 4), (8, 10, 8), (8, 60, 8)],
)
def test_the_number_of_gaussians_grows_with_the_points(clouds: int, each: int, size: int) -> None:
    """There is one for every 10 points, in mean, and eight at most; the number is a power of two."""
    points = clusters([(5.0 * at, 0.0) for at in range(clouds)], each)
    assert len(fit_mixture(points, seed=1).weights) == size


@pytest.mark.parametrize("seed", range(8))
def test_no_gaussian_stands_for_a_few_points(seed: int) -> None:
    """A far point, which the first centres always find, gets none of its own: its place would be shown."""
    points = np.concatenate([clusters([(0.0, 0.0), (3.0, 0.0)], 40), [(40.0, 40.0), (-40.0, 9.0)]])
    mixture = fit_mixture(points, seed=seed)
    assert (mixture.weights * len(points)).min() >= MIN_RELEASE_SAMPLES
    assert np.abs(mixture.means).max() < 12


def test_gaussians_lie_where_the_points_are() -> None:
    """Two clouds take one Gaussian each, of equal weights, at the clouds' centres."""
    mixture = fit_mixture(clusters([(-3.0, 0.0), (3.0, 1.0)], 15), seed=1)
    assert sorted(tuple(mean) for mean in mixture.means.round(0).tolist()) == [(-3.0, 0.0), (3.0, 1.0)]
    assert mixture.weights == pytest.approx(np.full(2, 0.5), abs=0.02)


def test_samples_have_the_moments_of_the_data() -> None:
    """Mean and covariance of many samples are those of the points."""
    points = clusters([(-2.0, 1.0), (2.0, 0.0)], 400)
    drawn, component = fit_mixture(points, seed=0).sample(20_000, np.random.default_rng(5))
    assert drawn.mean(0) == pytest.approx(points.mean(0), abs=0.1)
    assert np.cov(drawn.T) == pytest.approx(np.cov(points.T), abs=0.1)
    assert max(drawn[component == k].std(0).max() for k in np.unique(component)) < 0.4


def test_points_are_drawn_in_little_memory() -> None:
    """Of a Gaussian's factor no copy for each point is kept; the points are those of all copies at once."""
    generator = np.random.default_rng(0)
    mixture = Mixture(np.full(3, 1 / 3), generator.normal(size=(3, 40)), generator.normal(size=(3, 40, 40)))
    tracemalloc.start()
    drawn, component = mixture.sample(5000, np.random.default_rng(7))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 20 * 2**20
    noise = np.random.default_rng(7)
    assert np.array_equal(component, noise.choice(3, size=5000, p=np.full(3, 1 / 3)))
    at_once = np.einsum("nij,nj->ni", mixture.factors[component], noise.standard_normal((5000, 40)))
    assert np.array_equal(drawn, mixture.means[component] + at_once)


def test_responsibilities_are_shares_of_the_gaussians() -> None:
    """A point at a cloud's centre belongs to that cloud's Gaussian; the shares of every point sum to 1."""
    mixture = fit_mixture(clusters([(-3.0, 0.0), (3.0, 1.0)], 15), seed=1)
    shares = mixture.responsibilities(np.array([[-3.0, 0.0], [3.0, 1.0], [0.0, 0.5]]))
    assert shares.sum(1) == pytest.approx(np.ones(3))
    assert shares[0].argmax() != shares[1].argmax()
    assert shares[:2].max(1) == pytest.approx(np.ones(2), abs=1e-3)


@pytest.mark.parametrize("points", [np.zeros((60, 3)), np.ones((1, 2)), np.eye(9)])
def test_degenerate_points_are_no_obstacle(points: np.ndarray) -> None:
    """Points that are alike, few, or fewer than dimensions still give finite samples."""
    drawn, _ = fit_mixture(points, seed=0).sample(10, np.random.default_rng(0))
    assert drawn.shape == (10, points.shape[1])
    assert np.isfinite(drawn).all()


def test_fitting_can_be_given_up() -> None:
    """It takes seconds for thousands of samples; the report is told before each iteration."""
    told: list[float] = []

    def give_up(done: float, total: float, message: str) -> None:
        told.append(done)
        if done == 2:
            raise CancelledError("interrupted")

    with pytest.raises(CancelledError):
        fit_mixture(clusters([(-3.0, 0.0), (3.0, 1.0)], 15), seed=1, report=give_up)
    assert told == [0, 1, 2]
