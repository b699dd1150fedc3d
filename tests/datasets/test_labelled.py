"""LabelledData, its selections and the stratified hold-out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkt_p2p.datasets import Dataset, LabelledData, split_holdout
from qkt_p2p.datasets.labelled import check_classes, labelled
from qkt_p2p.errors import ConfigError
from qkt_p2p.types import ClassName

NAMES = (ClassName("a"), ClassName("b"), ClassName("c"))


def data_of(labels: list[int]) -> LabelledData:
    inputs = np.linspace(0, 1, len(labels) * 4, dtype=np.float32).reshape(-1, 1, 2, 2)
    return LabelledData(inputs, np.array(labels, np.int64), NAMES)


def test_counts_name_every_class_and_present_only_those_with_samples() -> None:
    """The label space may be wider than the data."""
    data = data_of([0, 2, 2])
    assert data.counts == {"a": 1, "b": 0, "c": 2}
    assert data.present == ("a", "c")
    assert data.input_shape == (1, 2, 2)


def test_of_class_returns_the_inputs_of_one_class() -> None:
    """A class without samples, or outside the label space, has none."""
    data = data_of([0, 2, 2])
    assert np.array_equal(data.of_class(NAMES[2]), data.inputs[1:])
    assert len(data.of_class(NAMES[1])) == len(data.of_class(ClassName("unheard of"))) == 0


def test_restrict_keeps_order_and_label_space() -> None:
    """At most the wanted number of each class is kept, the same for the same seed."""
    data = data_of([0, 1, 2, 0, 1, 2, 0])
    part = data.restrict([NAMES[0], NAMES[2]], 2, seed=3)
    assert part.counts == {"a": 2, "b": 0, "c": 2}
    assert part.classes == data.classes
    assert np.array_equal(part.inputs, data.restrict([NAMES[0], NAMES[2]], 2, seed=3).inputs)
    assert (np.diff(part.inputs[:, 0, 0, 0]) > 0).all()
    assert len(data.restrict([], seed=0)) == 0


def test_restrict_names_a_class_that_the_data_lacks() -> None:
    """The error lists what there is to choose from."""
    with pytest.raises(ConfigError, match="no class d") as caught:
        data_of([0]).restrict([ClassName("d")], seed=0)
    assert "a, b, c" in caught.value.fix


@pytest.mark.parametrize(
    ("inputs", "labels"),
    [
        (np.zeros((2, 4), np.float32), np.zeros(2, np.int64)),
        (np.zeros((2, 1, 2, 2)), np.zeros(2, np.int64)),
        (np.zeros((2, 1, 2, 2), np.float32), np.zeros(3, np.int64)),
        (np.zeros((2, 1, 2, 2), np.float32), np.zeros(2, np.int32)),
        (np.zeros((2, 1, 2, 2), np.float32), np.array([0, 3])),
        (np.zeros((2, 1, 2, 2), np.float32), np.array([-1, 0])),
        (np.zeros((2, 1, 2000, 2), np.float32), np.zeros(2, np.int64)),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(inputs: np.ndarray, labels: np.ndarray) -> None:
    """Wrong dimensions, types, lengths, labels and sizes are configuration errors."""
    with pytest.raises(ConfigError):
        LabelledData(inputs, labels, NAMES)


@pytest.mark.parametrize("names", [[], ["a", "a"], ["a,b"], ["x" * 65], [str(n) for n in range(1025)]])
def test_bad_class_names_are_refused(names: list[str]) -> None:
    """None, repeated, malformed, overlong and too many names are refused, and the place is named."""
    with pytest.raises(ConfigError, match="here"):
        check_classes(names, "here")


@pytest.mark.parametrize(
    ("inputs", "labels", "message"),
    [
        (np.empty((0, 4, 4), np.uint8), np.empty(0, np.int64), "no samples"),
        (np.full((3, 4, 4), 7, np.uint8), np.zeros(3, np.int64), "constant"),
        (np.array([[[0, np.nan]]]), np.zeros(1, np.int64), "NaN"),
        (np.array([[[0, 1.5]]]), np.zeros(1, np.int64), "0 to 1.5"),
        (np.eye(4, dtype=np.uint8)[None], np.zeros(2, np.int64), "1 inputs but 2 labels"),
        (np.eye(4, dtype=np.uint8)[None], np.array([5]), "label 5"),
        (np.eye(4, dtype=np.uint8)[None], np.array([0.5]), "float64"),
        (np.eye(4, dtype=np.int32)[None], np.array([0]), "int32"),
        (np.eye(4, dtype=np.uint8), np.zeros(4, np.int64), "not \\[n, height, width\\]"),
        (np.zeros((1, 4, 4, 9), np.uint8), np.array([0]), "not \\[n, height, width\\]"),
    ],
)
def test_unusable_arrays_are_refused_with_their_place(
    inputs: np.ndarray, labels: np.ndarray, message: str
) -> None:
    """Empty, constant, NaN, unscaled and misfit arrays name the file and what is wrong."""
    with pytest.raises(ConfigError, match=message) as caught:
        labelled(inputs, labels, NAMES, where="some.npz")
    assert "some.npz" in caught.value.message


def test_integers_are_scaled_by_their_full_range() -> None:
    """uint8 and uint16 images become the same numbers in [0, 1], channels first."""
    image = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    eight = labelled(image, np.array([[1]]), NAMES, where="x")
    sixteen = labelled(image.astype(np.uint16) * 257, np.array([1]), NAMES, where="x")
    assert eight.inputs.shape == (1, 3, 2, 2)
    assert np.allclose(eight.inputs, sixteen.inputs)
    assert eight.inputs[0, 2, 1, 1] == np.float32(11) / np.float32(255)


def test_train_and_test_have_to_agree() -> None:
    """Different classes or sizes in the two halves are refused."""
    small = data_of([0, 1])
    with pytest.raises(ConfigError, match="different classes"):
        Dataset(small, LabelledData(small.inputs, small.labels, NAMES[:2]))
    with pytest.raises(ConfigError, match="test inputs"):
        Dataset(small, LabelledData(small.inputs.reshape(-1, 1, 4, 1), small.labels, NAMES))


@given(st.lists(st.integers(0, 2), max_size=40), st.floats(0, 1), st.integers(0, 2**32))
def test_a_holdout_is_stratified_and_leaves_every_class_a_sample(
    labels: list[int], fraction: float, seed: int
) -> None:
    """Both parts together are the data; a class with samples keeps one at least."""
    data = data_of(labels)
    rest, held = split_holdout(data, fraction, seed=seed)
    assert rest.present == data.present
    together = np.concatenate([rest.inputs, held.inputs]).ravel()
    assert np.array_equal(np.sort(together), data.inputs.ravel())
    for name, count in data.counts.items():
        assert held.counts[name] == min(round(count * fraction), max(count - 1, 0))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.lists(st.integers(0, 3), max_size=30))
def test_repeated_inputs_are_told_by_what_they_hold(inputs: list[int], others: list[int]) -> None:
    """`distinct` keeps the first of equal inputs, `without` those that the other data lack, labels aside."""
    data, other = repeating(inputs, label=0), repeating(others, label=1)
    assert data.distinct().inputs.ravel().tolist() == [at / 4 for at in dict.fromkeys(inputs)]
    assert data.without(other).inputs.ravel().tolist() == [at / 4 for at in inputs if at not in others]


@given(st.lists(st.integers(0, 3), max_size=30), st.integers(0, 2**32))
def test_what_is_held_out_is_not_trained_on_under_another_number(inputs: list[int], seed: int) -> None:
    """Of an image that the data hold several times nothing is held out where one of them is trained on."""
    rest, held = split_holdout(repeating(inputs, label=0), 0.5, seed=seed)
    assert not set(rest.inputs.ravel().tolist()) & set(held.inputs.ravel().tolist())


def repeating(inputs: list[int], *, label: int) -> LabelledData:
    """Return one-pixel images of a class."""
    images = np.array(inputs, np.float32).reshape(-1, 1, 1, 1) / np.float32(4)
    return LabelledData(images, np.full(len(inputs), label, np.int64), NAMES)
