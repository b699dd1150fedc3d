"""How data is dealt out to nodes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkt_p2p.datasets import LabelledData, dirichlet, pathological
from qkt_p2p.errors import ConfigError
from qkt_p2p.types import ClassName


def data_of(classes: int, per_class: int) -> LabelledData:
    labels = np.repeat(np.arange(classes), per_class)
    names = tuple(ClassName(f"c{at}") for at in range(classes))
    return LabelledData(np.zeros((len(labels), 1, 1, 1), np.float32), labels, names)


@given(st.integers(1, 8), st.integers(2, 10), st.data())
def test_pathological_parts_cover_the_classes_and_share_nothing(
    nodes: int, classes: int, choice: st.DataObject
) -> None:
    """Every node holds just as many classes as wanted, and no sample belongs to two."""
    each = choice.draw(st.integers(1, classes - 1))
    data = data_of(classes, 16)
    parts = pathological(data, nodes=nodes, classes_per_node=each, seed=choice.draw(st.integers(0, 99)))
    held = [data.select(part).present for part in parts]
    assert [len(names) for names in held] == [each] * nodes
    everything = np.concatenate(parts)
    assert len(np.unique(everything)) == len(everything)
    assert len({name for names in held for name in names}) == min(classes, nodes * each)


def test_the_same_seed_gives_the_same_parts() -> None:
    """Partitions are reproducible, and differ between seeds."""
    data = data_of(10, 20)
    one, two, other = (pathological(data, nodes=5, classes_per_node=3, seed=seed) for seed in (4, 4, 5))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    first, second = (dirichlet(data, nodes=4, alpha=0.3, seed=1) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@given(st.integers(1, 6), st.floats(0.2, 100), st.integers(0, 99))
def test_dirichlet_parts_are_all_of_the_data(nodes: int, alpha: float, seed: int) -> None:
    """No sample is lost or doubled, and no node is empty."""
    data = data_of(10, 30)
    parts = dirichlet(data, nodes=nodes, alpha=alpha, seed=seed)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(data)))
    assert min(len(part) for part in parts) > 0


@pytest.mark.parametrize(("nodes", "each"), [(0, 1), (2, 0), (2, 3), (2, 9)])
def test_impossible_pathological_partitions_are_refused(nodes: int, each: int) -> None:
    """No node may hold all classes, and none may hold no class."""
    with pytest.raises(ConfigError):
        pathological(data_of(3, 5), nodes=nodes, classes_per_node=each, seed=0)


@pytest.mark.parametrize(
    ("nodes", "alpha"), [(0, 1.0), (2, 0.0), (2, float("nan")), (2, float("inf")), (40, 1.0)]
)
def test_impossible_dirichlet_partitions_are_refused(nodes: int, alpha: float) -> None:
    """Bad parameters, and more nodes than samples, are configuration errors."""
    with pytest.raises(ConfigError):
        dirichlet(data_of(3, 5), nodes=nodes, alpha=alpha, seed=0)
