"""Statistics are released through one gate, made once, and reproducible."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from qkt_p2p.datasets import LabelledData
from qkt_p2p.errors import PeerRefusedError
from qkt_p2p.models import build_classifier
from qkt_p2p.synthesis import Holdings
from qkt_p2p.synthesis.bank import Bank
from qkt_p2p.synthesis.release import MIN_RELEASE_SAMPLES, Statistics, release
from qkt_p2p.types import ClassName
from qkt_p2p.wire.recipes import encode_recipe

A, B = ClassName("a"), ClassName("b")
CLASSIFIER = build_classifier("mlp", input_shape=(1, 4, 4), classes=(A, B), trained=(A, B), seed=0).eval()


def data_of(seed: int = 0) -> LabelledData:
    inputs = np.random.default_rng(seed).random((30, 1, 4, 4), np.float32)
    return LabelledData(inputs, np.arange(30) // 25, (A, B))


def holdings(cache: dict[str, bytes], *, seed: int = 0, model_version: int = 1) -> Holdings:
    return Holdings(CLASSIFIER, data_of(seed), model_version, cache, chunk_bytes=1000)


def bank_of(
    held: Holdings,
    *,
    space: str = "inputs",
    rank: int = 8,
    enter: Callable[[Any], Any] = lambda inputs: inputs,
) -> Bank:
    return Bank(held, space=space, numbers=16, rank=rank, enter=enter)


def test_statistics_are_made_once_for_all_that_they_depend_on() -> None:
    """A second recipe takes them from the cache; other data, version, space or rank makes new ones."""
    cache: dict[str, bytes] = {}
    held = holdings(cache)
    first = bank_of(held).recipe(A, [A, B])
    kept = dict(cache)
    assert len(kept) == 1
    assert encode_recipe(bank_of(held).recipe(A, [A, B])) == encode_recipe(first)
    assert bank_of(held).recipe(A, [A]).targets.shape[1] == 1
    assert cache == kept
    for other in (
        bank_of(holdings(cache, model_version=2)),
        bank_of(holdings(cache, seed=1)),
        bank_of(held, space="features 1"),
        bank_of(held, space="features 2"),
        bank_of(held, rank=3),
    ):
        other.recipe(A, [A])
    assert len(cache) == 6


def test_looking_statistics_up_copies_a_class_once() -> None:
    """What names them is digested where it lies; the one copy is that of the class's own samples."""
    inputs = np.random.default_rng(0).random((20, 1, 64, 64), np.float32)
    model = build_classifier("mlp", input_shape=(1, 64, 64), classes=(A,), trained=(A,), seed=0).eval()
    held = Holdings(model, LabelledData(inputs, np.zeros(20, np.int64), (A,)), 1, {}, chunk_bytes=1000)
    bank = Bank(held, space="inputs", numbers=4096, rank=1, enter=lambda inputs: inputs)
    bank.recipe(A, [A])
    tracemalloc.start()
    try:
        bank.recipe(A, [A])
        assert tracemalloc.get_traced_memory()[1] < 2 * inputs.nbytes
    finally:
        tracemalloc.stop()


def test_what_is_cached_is_not_computed_again() -> None:
    """Neither the stem runs nor the model answers where the statistics are there."""
    cache: dict[str, bytes] = {}
    entered: list[int] = []

    def enter(inputs: Any) -> Any:
        entered.append(len(inputs))
        return inputs

    for _ in range(2):
        bank_of(holdings(cache), enter=enter).recipe(A, [A])
    assert entered == [25]


def test_a_class_that_fits_into_no_memory_is_described_by_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many samples as fit enter the space, the same ones each time, and the gate is told how many."""
    entered: list[np.ndarray] = []
    shown: list[int] = []

    def enter(inputs: Any) -> Any:
        entered.append(inputs)
        return inputs

    def spy(statistics: Statistics, *, class_name: ClassName, samples: int) -> Statistics:
        shown.append(samples)
        return statistics

    monkeypatch.setattr("qkt_p2p.synthesis.bank.release", spy)
    for most in (10, 10, 25):
        monkeypatch.setattr("qkt_p2p.synthesis.bank.MAX_FITTED_NUMBERS", 16 * most)
        bank_of(holdings({}), enter=enter).recipe(A, [A])
    some, again, whole = entered
    assert np.array_equal(some, again)
    assert np.array_equal(whole, data_of().of_class(A))
    assert np.array_equal(some, whole[np.isin(whole[:, 0, 0, 0], some[:, 0, 0, 0])])
    assert shown == [len(each) for each in entered] == [10, 10, 25]


def test_recipes_do_not_depend_on_who_made_the_statistics() -> None:
    """A fresh process makes the same recipe, so the same request has the same bytes."""
    one, two = (encode_recipe(bank_of(holdings({})).recipe(A, [A, B])) for _ in range(2))
    assert one == two


def test_a_class_of_few_samples_is_not_released() -> None:
    """The reason says how many there are, and nothing is kept."""
    cache: dict[str, bytes] = {}
    with pytest.raises(PeerRefusedError, match=f"5 samples of b are fewer than {MIN_RELEASE_SAMPLES}"):
        bank_of(holdings(cache)).recipe(B, [A, B])
    assert cache == {}


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 65_536.0, -65_536.0])
def test_statistics_that_are_not_finite_are_not_released(number: float) -> None:
    """A fit that failed numerically stays inside, and so does what no half number can hold."""
    with pytest.raises(PeerRefusedError, match="not finite"):
        release({"mean": np.array([0.0, number], np.float32)}, class_name=A, samples=100)


def test_features_too_large_to_travel_are_refused_by_their_teacher() -> None:
    """Its asker would have to take them for misbehaviour."""
    bank = bank_of(holdings({}), enter=lambda inputs: inputs * 1e6)
    with pytest.raises(PeerRefusedError, match="too large to travel"):
        bank.recipe(A, [A])


def test_all_that_leaves_has_passed_the_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the gate is shown is all that there is in a recipe: replaced there, it is replaced everywhere."""
    shown: list[tuple[ClassName, int, set[str]]] = []

    def spy(statistics: Statistics, *, class_name: ClassName, samples: int) -> Statistics:
        shown.append((class_name, samples, set(statistics)))
        return {name: np.full_like(array, 0.5) for name, array in statistics.items()}

    monkeypatch.setattr("qkt_p2p.synthesis.bank.release", spy)
    cache: dict[str, bytes] = {}
    recipe = bank_of(holdings(cache)).recipe(A, [A, B])
    arrays = {"mean", "basis", "residual", "weights", "means", "factors", "answers"}
    assert shown == [(A, 25, arrays)]
    for name in arrays - {"answers"}:
        assert (getattr(recipe, name) == 0.5).all(), name
    again = bank_of(replace(holdings(cache), classifier=CLASSIFIER)).recipe(A, [A, B])
    assert encode_recipe(again) == encode_recipe(recipe)
