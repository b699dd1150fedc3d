"""The medium `moments`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qkt_p2p.datasets import load_dataset
from qkt_p2p.synthesis.medium import medium_of
from qkt_p2p.synthesis.moments import Moments
from qkt_p2p.types import MEDIA, ClassName


def sevens() -> np.ndarray:
    return load_dataset("digits", root=Path()).train.of_class(ClassName("7"))


def test_synthetic_inputs_have_the_moments_of_the_real_ones() -> None:
    """Mean and deviation per pixel agree; nothing is outside [0, 1]."""
    real, medium = sevens(), Moments()
    drawn = medium.sample(medium.fit(real, seed=0), 2000, shape=(1, 8, 8), seed=1)
    assert drawn.shape == (2000, 1, 8, 8)
    assert drawn.dtype == np.float32
    assert 0 <= drawn.min() <= drawn.max() <= 1
    assert np.abs(drawn.mean(0) - real.mean(0)).max() < 0.08
    assert np.abs(drawn.std(0) - real.std(0)).max() < 0.1


def test_synthetic_inputs_are_new() -> None:
    """No synthetic input is one of the real ones, nor the same under another seed."""
    real, medium = sevens(), Moments()
    statistics = medium.fit(real, seed=0)
    one, two, other = (medium.sample(statistics, 50, shape=(1, 8, 8), seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)
    distances = np.abs(one[:, None] - real).max(axis=(2, 3, 4))
    assert distances.min() > 0.1


@pytest.mark.parametrize("inputs", [np.full((9, 1, 4, 4), 0.5, np.float32), np.eye(16, dtype=np.float32)[:3]])
def test_degenerate_classes_are_no_obstacle(inputs: np.ndarray) -> None:
    """A class of one look, or of few samples, still gives inputs."""
    inputs, medium = inputs.reshape(-1, 1, 4, 4), Moments()
    drawn = medium.sample(medium.fit(inputs, seed=0), 5, shape=(1, 4, 4), seed=0)
    assert np.isfinite(drawn).all()


def test_every_medium_of_the_protocol_is_built_in() -> None:
    """Names that can be asked for exist, others do not."""
    media = [medium_of(name) for name in MEDIA]
    assert [medium.name for medium in media if medium] == list(MEDIA)
    assert medium_of("telepathy") is None
