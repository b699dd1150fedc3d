"""Classes as recipes: what is drawn from them is like the class, and is nobody's data."""

from __future__ import annotations

import tracemalloc
from functools import partial
from math import inf
from pathlib import Path

import numpy as np
import pytest

from qkt_p2p.datasets import load_dataset
from qkt_p2p.errors import CancelledError
from qkt_p2p.synthesis.recipes import USUAL_RANK, draw, fit_recipe, masked_recipe
from qkt_p2p.types import ClassName
from qkt_p2p.wire.recipes import Recipe

A, B, C = (ClassName(name) for name in "abc")
Samples = np.ndarray


def sevens() -> Samples:
    return load_dataset("digits", root=Path()).train.of_class(ClassName("7"))


def recipe_of(samples: Samples, *, rank: int = USUAL_RANK) -> Recipe:
    """Return the recipe of samples whose model answers evenly."""
    answers = np.full((len(samples), 2), 0.5, np.float32)
    statistics = fit_recipe(samples, answers, rank=rank, seed=0)
    return masked_recipe(statistics, A, classes=(A, B), mask=(A, B))


draw_with_noise = partial(draw, deviations=np.empty((0, 0), np.float32))


def drawn_from(samples: Samples, count: int, *, seed: int = 1, rank: int = USUAL_RANK) -> Samples:
    drawn, _ = draw_with_noise(recipe_of(samples, rank=rank), count, low=0.0, high=1.0, seed=seed)
    return drawn.reshape(-1, *samples.shape[1:])


def test_synthetic_inputs_have_the_moments_of_the_real_ones() -> None:
    """Mean and deviation per pixel agree; nothing is out of bounds."""
    real = sevens()
    drawn = drawn_from(real, 2000)
    assert drawn.shape == (2000, 1, 8, 8)
    assert drawn.dtype == np.float32
    assert 0 <= drawn.min() <= drawn.max() <= 1
    assert np.abs(drawn.mean(0) - real.mean(0)).max() < 0.08
    assert np.abs(drawn.std(0) - real.std(0)).max() < 0.1


def test_synthetic_inputs_are_new() -> None:
    """No synthetic input is one of the real ones, nor the same under another seed."""
    real = sevens()
    one, two, other = (drawn_from(real, 50, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)
    distances = np.abs(one[:, None] - real).max(axis=(2, 3, 4))
    assert distances.min() > 0.1


@pytest.mark.parametrize("count", [9, 100])
def test_few_axes_leave_the_rest_to_noise(count: int) -> None:
    """Whatever the rank, with more samples than numbers or fewer, the deviations stay those of the data."""
    samples = np.random.default_rng(0).normal(5, 2, (count, 20)).astype(np.float32)
    for rank in (1, 3):
        recipe = recipe_of(samples, rank=rank)
        assert recipe.basis.shape == (rank, 20)
        assert np.allclose(np.linalg.norm(recipe.basis, axis=1), 1, atol=1e-5)
        drawn, _ = draw_with_noise(recipe, 4000, low=-inf, high=inf, seed=0)
        assert drawn.std(0) == pytest.approx(samples.std(0), rel=0.15)


def test_large_samples_are_described_in_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are held as they came and once more; worked on in parts, the recipe is the same."""
    samples = np.random.default_rng(0).normal(5, 2, (40, 50_001)).astype(np.float32)
    answers = np.full((40, 2), 0.5, np.float32)
    whole = fit_recipe(samples, answers, rank=USUAL_RANK, seed=0)
    monkeypatch.setattr("qkt_p2p.synthesis.recipes._PART_NUMBERS", 40 * 1000)
    tracemalloc.start()
    parted = fit_recipe(samples, answers, rank=4, seed=0)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1.7 * samples.size * 8
    parted = fit_recipe(samples, answers, rank=USUAL_RANK, seed=0)
    assert [name for name in whole if not np.array_equal(whole[name], parted[name])] == []


def spread_over(numbers: int, count: int) -> Samples:
    """Return samples of which each of many directions has a little less variance than the one before."""
    generator = np.random.default_rng(0)
    turned = np.linalg.qr(generator.normal(size=(numbers, numbers)))[0]
    falling = generator.normal(size=(count, numbers)) * 0.95 ** np.arange(numbers)
    samples: Samples = (5 + falling @ turned).astype(np.float32)
    return samples


@pytest.mark.parametrize(("numbers", "count"), [(60, 1500), (300, 1100)])
def test_axes_of_many_samples_are_nearly_those_of_all(
    monkeypatch: pytest.MonkeyPatch, numbers: int, count: int
) -> None:
    """They come from some of the samples and a look at the others, and explain as much but for a trace."""
    samples = spread_over(numbers, count)
    exact = recipe_of(samples, rank=10)
    monkeypatch.setattr("qkt_p2p.synthesis.recipes._EXACT_SAMPLES", 100)
    found = recipe_of(samples, rank=10)
    assert np.allclose(found.basis @ found.basis.T, np.eye(10), atol=1e-5)
    centred = samples - samples.mean(0)
    best, near = (((centred @ recipe.basis.T) ** 2).sum() for recipe in (exact, found))
    assert 0.98 * best < near <= best * (1 + 1e-6)
    left, left_out = ((recipe.residual**2).sum() for recipe in (exact, found))
    assert left_out == pytest.approx(left, rel=0.05)


def test_as_many_axes_of_many_samples_are_kept_as_explain_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is 95 % of the variance of all, as with few samples; samples of one look have one axis."""
    samples = spread_over(60, 500) - spread_over(60, 500).mean(0)
    samples[:, 3:] /= 100
    exact = recipe_of(samples)
    monkeypatch.setattr("qkt_p2p.synthesis.recipes._EXACT_SAMPLES", 100)
    assert len(recipe_of(samples).basis) == len(exact.basis) < 4
    assert len(recipe_of(np.ones((500, 60), np.float32)).basis) == 1


def test_finding_the_axes_of_many_samples_can_be_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before each part of the samples somebody may say so."""
    monkeypatch.setattr("qkt_p2p.synthesis.recipes._EXACT_SAMPLES", 100)
    told: list[tuple[float, float]] = []

    def cancel(done: float, total: float, message: str) -> None:
        assert message == "finding principal axes"
        told.append((done, total))
        if done == 3:
            raise CancelledError("interrupted")

    with pytest.raises(CancelledError):
        fit_recipe(spread_over(60, 250), np.ones((250, 1), np.float32), rank=4, seed=0, report=cancel)
    assert told == [(0, 6), (1, 6), (2, 6), (3, 6)]


def test_gaussians_are_fitted_to_some_of_very_many_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time that takes is bounded; answers are still the means of all."""
    samples = np.random.default_rng(0).normal(5, 2, (1000, 20)).astype(np.float32)
    answers = np.arange(1000, dtype=np.float32)[:, None]
    every = fit_recipe(samples, answers, rank=3, seed=0)
    monkeypatch.setattr("qkt_p2p.synthesis.recipes._MIXED_SAMPLES", 30)
    some = fit_recipe(samples, answers, rank=3, seed=0)
    # There is one for ten samples.
    assert len(some["weights"]) <= 3 < len(every["weights"])
    assert some["answers"].mean() == pytest.approx(499.5, rel=0.1)


def test_what_the_axes_leave_out_looks_as_in_real_samples() -> None:
    """Numbers that go together in other samples do so in drawn ones, at the class's own deviation of each."""
    generator = np.random.default_rng(0)

    def pairs(count: int, deviation: float) -> Samples:
        halves = generator.normal(0, deviation, (count, 20)).astype(np.float32)
        return np.concatenate([halves, halves], axis=1)

    recipe = recipe_of(pairs(500, 2.0), rank=1)
    drawn, _ = draw(recipe, 4000, low=-inf, high=inf, deviations=pairs(300, 0.1), seed=0)
    noisy, _ = draw_with_noise(recipe, 4000, low=-inf, high=inf, seed=0)
    together, apart = (np.corrcoef(found[:, 3], found[:, 23])[0, 1] for found in (drawn, noisy))
    assert (together > 0.9, apart < 0.5) == (True, True)
    assert drawn.std(0) == pytest.approx(np.full(40, 2.0), rel=0.15)


def test_features_are_as_often_zero_as_a_rectifier_leaves_them() -> None:
    """Cutting off what is below 0 would raise the means and halve how often numbers are 0."""
    generator = np.random.default_rng(0)
    real = np.maximum(generator.normal([0.3, 0.0, -0.5], 1.0, (3000, 3)), 0).astype(np.float32)
    recipe = recipe_of(real)
    drawn, _ = draw_with_noise(recipe, 3000, low=0.0, high=inf, seed=1)
    cut_off = draw_with_noise(recipe, 3000, low=-inf, high=inf, seed=1)[0].clip(0)
    assert drawn.min() == 0
    assert drawn.mean(0) == pytest.approx(real.mean(0), abs=0.03)
    assert drawn.std(0) == pytest.approx(real.std(0), rel=0.1)
    for found, near in ((drawn, True), (cut_off, False)):
        missed = np.abs((found == 0).mean(0) - (real == 0).mean(0))
        assert (missed < 0.1).tolist() == [near] * 3


def test_numbers_that_nobody_draws_below_zero_are_as_drawn() -> None:
    """There is nothing to cut, and a number that never varies stays what it is."""
    samples = np.random.default_rng(0).normal(50, 2, (100, 20)).astype(np.float32)
    samples[:, 3] = 7.0
    free, bounded = (
        draw_with_noise(recipe_of(samples), 200, low=low, high=inf, seed=0)[0] for low in (-inf, 0.0)
    )
    assert np.array_equal(free, bounded)


@pytest.mark.parametrize("same", [np.zeros((1, 20), np.float32), np.ones((50, 20), np.float32)])
def test_noise_stands_in_where_real_samples_do_not_deviate(same: Samples) -> None:
    """One sample has nothing to say, nor have numbers that are always the same."""
    recipe = recipe_of(np.random.default_rng(0).normal(5, 2, (100, 20)).astype(np.float32), rank=1)
    drawn, _ = draw(recipe, 4000, low=-inf, high=inf, deviations=same, seed=0)
    assert drawn.std(0) == pytest.approx(np.full(20, 2.0), rel=0.3)


@pytest.mark.parametrize(
    "samples",
    [np.full((9, 16), 0.5, np.float32), np.full((40, 16), 0.5, np.float32), np.eye(16, dtype=np.float32)[:3]],
)
def test_degenerate_classes_are_no_obstacle(samples: Samples) -> None:
    """A class of one look, or of few samples, still gives samples."""
    drawn, targets = draw_with_noise(recipe_of(samples), 5, low=0.0, high=1.0, seed=0)
    assert np.isfinite(drawn).all()
    assert np.isfinite(targets).all()


def test_a_class_of_one_look_keeps_it() -> None:
    """There is nothing else to draw."""
    drawn, _ = draw_with_noise(recipe_of(np.full((40, 16), 0.5, np.float32)), 50, low=0.0, high=1.0, seed=0)
    assert np.abs(drawn - 0.5).max() < 0.02


def test_each_gaussian_keeps_the_answer_to_its_samples() -> None:
    """Where a class has two looks of which the model takes one for another class, so do the targets."""
    generator = np.random.default_rng(0)
    looks = np.repeat([0.0, 1.0], 24)
    samples = (looks[:, None] + generator.normal(0, 0.02, (48, 4))).astype(np.float32)
    answers = np.where(looks[:, None] > 0.5, [0.5, 0.4, 0.1], [0.9, 0.0, 0.1]).astype(np.float32)
    statistics = fit_recipe(samples, answers, rank=3, seed=0)
    assert sorted(statistics["answers"][:, 1].round(3).tolist()) == pytest.approx([0.0, 0.4], abs=1e-3)
    recipe = masked_recipe(statistics, A, classes=(A, B, C), mask=(A, B))
    drawn, targets = draw_with_noise(recipe, 200, low=-inf, high=inf, seed=1)
    assert recipe.targets.shape == (2, 2)
    assert np.array_equal(targets[:, 1] > 0.1, drawn.mean(1) > 0.5)
    assert (targets.argmax(1) == 0).all()
