"""Statistics are released through one gate, made once, and reproducible."""

from __future__ import annotations

import numpy as np
import pytest

from qkt_p2p.datasets import LabelledData
from qkt_p2p.errors import PeerRefusedError
from qkt_p2p.synthesis import Bank
from qkt_p2p.synthesis.moments import Moments
from qkt_p2p.synthesis.release import MIN_RELEASE_SAMPLES, release
from qkt_p2p.types import ClassName

A, B = ClassName("a"), ClassName("b")


def data_of(seed: int = 0) -> LabelledData:
    inputs = np.random.default_rng(seed).random((30, 1, 4, 4), np.float32)
    return LabelledData(inputs, np.arange(30) // 25, (A, B))


def test_statistics_are_made_once_per_model_version_and_class() -> None:
    """A second draw takes them from the cache; other data or another version makes new ones."""
    cache: dict[str, bytes] = {}
    bank = Bank(Moments(), data_of(), model_version=1, cache=cache)
    first = bank.sample(A, 7, seed=3)
    kept = dict(cache)
    assert len(kept) == 1
    assert np.array_equal(first, bank.sample(A, 7, seed=3))
    assert cache == kept
    Bank(Moments(), data_of(), model_version=2, cache=cache).sample(A, 7, seed=3)
    Bank(Moments(), data_of(seed=1), model_version=1, cache=cache).sample(A, 7, seed=3)
    assert len(cache) == 3
    assert all(key.replace("-", "").isalnum() for key in cache)


def test_samples_do_not_depend_on_who_made_the_statistics() -> None:
    """A fresh process draws the same inputs, so the same request has the same bytes."""
    one, two = (Bank(Moments(), data_of(), model_version=1, cache={}).sample(A, 9, seed=8) for _ in range(2))
    assert np.array_equal(one, two)


def test_a_class_of_few_samples_is_not_released() -> None:
    """The reason says how many there are, and nothing is kept."""
    cache: dict[str, bytes] = {}
    with pytest.raises(PeerRefusedError, match=f"5 samples of b are fewer than {MIN_RELEASE_SAMPLES}"):
        Bank(Moments(), data_of(), model_version=1, cache=cache).sample(B, 7, seed=3)
    assert cache == {}


def test_statistics_that_are_not_finite_are_not_released() -> None:
    """A fit that failed numerically stays inside."""
    with pytest.raises(PeerRefusedError, match="not finite"):
        release({"mean": np.array([np.nan], np.float32)}, class_name=A, samples=100)
