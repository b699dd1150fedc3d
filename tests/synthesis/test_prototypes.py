"""A prototype says no more of a sample than its noise allows, and enough to draw from."""

from __future__ import annotations

from math import hypot, inf
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qkt_p2p.errors import CancelledError
from qkt_p2p.synthesis import Reading
from qkt_p2p.synthesis.prototypes import CLEAR, Surroundings, _unit, draw_of_prototype, fit_prototype
from qkt_p2p.wire.prototypes import Prototype

SHAPE = (1, 3, 3)
NUMBERS = 9
RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.random((40, *SHAPE), np.float32)
HARDLY_ANY_NOISE = 1e6


def as_it_is(inputs: Any) -> Any:
    return inputs


def mean_direction(inputs: np.ndarray) -> np.ndarray:
    rows = inputs.reshape(len(inputs), -1)
    mean: np.ndarray = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).mean(0)
    return mean


def reading(samples: np.ndarray, **changes: Any) -> Reading:
    own = Surroundings(samples, samples - samples.mean(0))
    options = {"low": 0.0, "high": 1.0, "samples_per_class": 400, "affordable": 400, "seed": 1}
    return Reading(SHAPE, own=own, **{**options, **changes})


def test_without_noise_it_is_the_mean_of_samples_of_length_1() -> None:
    """However many samples are added up at once."""
    many = RANDOM.random((2500, *SHAPE), np.float32)
    for inputs in (INPUTS, many):
        found = fit_prototype(inputs, as_it_is, mu=HARDLY_ANY_NOISE)
        assert np.allclose(found.direction, mean_direction(inputs), atol=1e-4)
        assert found.noise == pytest.approx(hypot(1, 0.5) / HARDLY_ANY_NOISE / len(inputs), rel=1e-3)


@given(arrays(np.float32, (4, NUMBERS), elements=st.floats(width=32, allow_nan=True, allow_infinity=True)))
def test_no_sample_counts_for_more_than_1(samples: np.ndarray) -> None:
    """Whatever a stem made of it: the sum changes by a vector that is no longer, and is a number."""
    assert (np.linalg.norm(_unit(samples), axis=1) <= 1 + 1e-9).all()


def test_the_noise_is_that_of_the_accountant() -> None:
    """Its deviation in the sum is sqrt(1 + 1/4) / mu: a sample counts 1 in the sum and 1/2 in the count."""
    mu = 0.5
    found = np.stack([fit_prototype(INPUTS, as_it_is, mu=mu).direction for _ in range(600)])
    # The count's own noise scales the whole: looked at across the mean direction it does not show.
    unit = mean_direction(INPUTS) / np.linalg.norm(mean_direction(INPUTS))
    across = found - np.outer(found @ unit, unit)
    deviation = np.sqrt((across**2).sum(1).mean() / (NUMBERS - 1)) * len(INPUTS)
    assert deviation == pytest.approx(hypot(1, 0.5) / mu, rel=0.15)


def test_nobody_can_guess_the_noise() -> None:
    """No seed makes it: two prototypes of the same samples differ."""
    one, other = (fit_prototype(INPUTS, as_it_is, mu=1.0).direction for _ in range(2))
    assert not np.allclose(one, other, atol=1e-3)


def test_it_can_be_given_up() -> None:
    """Between parts."""

    def report(*_: object) -> None:
        raise CancelledError("the operation was cancelled")

    with pytest.raises(CancelledError):
        fit_prototype(INPUTS, as_it_is, mu=1.0, report=report)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.0, inf), (-inf, inf)])
def test_samples_lie_about_it_as_own_ones_deviate(low: float, high: float) -> None:
    """As long as the asker's own, within bounds, and the same for one seed."""
    own = (0.5 + RANDOM.normal(0, 0.05, (300, NUMBERS))).astype(np.float32)
    prototype = Prototype(np.full(NUMBERS, 1 / 3, np.float32), 1e-6)
    known = reading(own, low=low, high=high)
    samples = draw_of_prototype(prototype, known, seed=3)
    assert samples.shape == (400, NUMBERS)
    assert samples.dtype == np.float32
    assert low <= samples.min() <= samples.max() <= high
    assert np.allclose(samples.mean(0), 0.5, atol=0.02)
    assert np.allclose(samples.std(0), 0.05, atol=0.02)
    assert np.array_equal(samples, draw_of_prototype(prototype, known, seed=3))
    assert not np.array_equal(samples, draw_of_prototype(prototype, known, seed=4))


def test_what_noise_says_is_not_believed() -> None:
    """Nothing beside the axes in which own samples differ; along these the less, the more noise there is."""
    axis = np.zeros(NUMBERS, np.float32)
    axis[0] = 1.0
    samples = (
        np.full((100, NUMBERS), 0.5, np.float32) + np.linspace(-1, 1, 100, dtype=np.float32)[:, None] * axis
    )
    own = Surroundings(samples, samples - samples.mean(0))
    direction = (samples.mean(0) + 0.6 * axis) / np.float32(own.length)
    direction[1] += 5.0
    found = {noise: own.believed(Prototype(direction, noise)) for noise in (0.0, 0.1, 0.5, 1e6)}
    for mean in found.values():
        assert np.allclose(mean[1:], 0.5, atol=1e-5)
    first = [mean[0] - 0.5 for mean in found.values()]
    assert first == sorted(first, reverse=True)
    assert (first[0], first[-1]) == (pytest.approx(0.6, abs=1e-4), pytest.approx(0, abs=1e-4))
    variance = samples[:, 0].var()
    assert first[1] == pytest.approx(0.6 * variance / (variance + (0.1 * own.length) ** 2), rel=1e-4)


def test_own_samples_that_are_all_the_same_know_no_direction() -> None:
    """Then a prototype tells nothing but their own mean."""
    own = Surroundings(np.full((5, NUMBERS), 0.25, np.float32), np.zeros((5, NUMBERS), np.float32))
    assert np.allclose(own.believed(Prototype(np.ones(NUMBERS, np.float32), 0.1)), 0.25)


def test_what_noise_alone_says_is_not_clear() -> None:
    """Its clearness is about 1; a class that lies apart is the clearer the less noise there is."""
    generator = np.random.default_rng(1)
    samples = generator.random((200, NUMBERS)).astype(np.float32)
    own = Surroundings(samples, samples - samples.mean(0))
    mean = own.samples.mean(0) / np.float32(own.length)

    def clearness(shift: float, noise: float) -> float:
        direction = mean + np.float32(shift) + generator.normal(0, noise, NUMBERS).astype(np.float32)
        return own.clearness(Prototype(direction, noise))

    assert np.mean([clearness(0.0, 0.05) for _ in range(500)]) == pytest.approx(1.0, abs=0.1)
    found = [np.mean([clearness(0.1, noise) for _ in range(50)]) for noise in (0.3, 0.1, 0.03, 0.01)]
    assert found == sorted(found)
    assert found[2] > CLEAR
    assert own.clearness(Prototype(mean + np.float32(0.1), 0.0)) == inf


def test_an_asker_whose_samples_are_all_the_same_finds_nothing_clear() -> None:
    """There is no direction in which a class could differ."""
    own = Surroundings(np.full((5, NUMBERS), 0.25, np.float32), np.zeros((5, NUMBERS), np.float32))
    assert own.clearness(Prototype(np.ones(NUMBERS, np.float32), 0.1)) == 0.0
