"""The same data, partitions and models for all methods, and nothing of the test data in any training."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from qkt_bench.federation import LOCAL_SAMPLES, Federation, Federations
from qkt_bench.plan import BenchPlan, FederationPlan, Partition, QueryPlan, parse_partition
from qkt_bench.queries import TEACHER_SAMPLES, make_queries
from qkt_bench.sources import load_source, pooled
from qkt_p2p.datasets import Dataset, LabelledData, save_npz
from qkt_p2p.errors import UsageError
from qkt_p2p.types import ClassName
from tests.bench.conftest import DIRICHLET, PATHOLOGICAL, Build, small_plan


def images(data: LabelledData) -> Counter[bytes]:
    return Counter(image.tobytes() for image in data.inputs)


@pytest.mark.parametrize("partition", [PATHOLOGICAL, DIRICHLET])
def test_no_test_sample_is_trained_or_tuned_on(build: Build, partition: Partition) -> None:
    """Training parts, holdouts and test data share no image, and no sample is dealt out twice."""
    federation = build(partition)
    parts = [images(data) for node in federation.nodes for data in (node.train, node.holdout)]
    dealt = sum(parts, Counter())
    assert not dealt.keys() & images(federation.test).keys()
    assert max(dealt.values()) == 1
    assert images(federation.validation) == sum(parts[1::2], Counter())


def test_an_input_that_a_source_repeats_is_there_once(tmp_path: Path) -> None:
    """Public data sets repeat inputs, and have some test data among their training data."""
    inputs = np.random.default_rng(0).random((40, 1, 4, 4), np.float32)
    data = LabelledData(inputs, np.arange(40) % 2, (ClassName("a"), ClassName("b")))
    path = tmp_path / "repeating.npz"
    save_npz(path, Dataset(data.select(np.arange(50) % 30), data.select(np.r_[20:40, 35:40])))
    cut = load_source(FederationPlan(str(path), 2, PATHOLOGICAL, "mlp"), seed=0)
    assert images(cut.train) == images(data.select(np.arange(30)))
    assert images(cut.test) == images(data.select(np.arange(30, 40)))


def test_pathological_nodes_have_their_classes(federation: Federation) -> None:
    """Each of the three has three classes, and learned just these."""
    for node in federation.nodes:
        assert len(node.local) == 3
        assert node.classifier.trained == node.local
        assert node.classifier.classes == federation.classes


def test_a_few_samples_make_no_class_of_the_nodes_own(build: Build) -> None:
    """Under Dirichlet the own classes are those with enough samples, and scarce ones can be asked for."""
    federation = build(DIRICHLET)
    for node in federation.nodes:
        assert node.local == tuple(n for n, count in node.train.counts.items() if count >= LOCAL_SAMPLES)
    for query in make_queries(federation, QueryPlan("single", askers=3, per_asker=9)):
        (name,), asker = query.classes, federation.node(query.asker)
        assert query.own_samples == (asker.train.counts[name],)
        assert query.own_samples[0] < LOCAL_SAMPLES
        assert any(node.train.counts[name] >= TEACHER_SAMPLES for node in federation.others(query.asker))


def test_models_and_queries_come_back_as_they_were(tmp_path: Path) -> None:
    """A second run reads the models of the first, bit by bit, and asks the same."""
    first, second = (
        Federations(small_plan(), tmp_path, reference_seed=0, say=lambda _: None).of(0) for _ in range(2)
    )
    plan = QueryPlan("multi")
    assert make_queries(first, plan) == make_queries(second, plan)
    for one, other in zip(first.nodes, second.nodes, strict=True):
        for name, tensor in one.classifier.state_dict().items():
            assert tensor.equal(other.classifier.state_dict()[name])


def test_queries_keep_their_bounds(federation: Federation) -> None:
    """At most so many askers and queries, several classes at once only where wanted."""
    single = make_queries(federation, QueryPlan("single", askers=2, per_asker=2))
    assert Counter(query.asker for query in single).most_common() == [
        (name, 2) for name in dict.fromkeys(query.asker for query in single)
    ]
    assert [query.number for query in single] == [0, 1, 2, 3]
    multi = make_queries(federation, QueryPlan("multi", askers=1, per_asker=1))
    assert [len(query.classes) for query in multi] == [3]


def test_a_table_is_named_after_what_it_measures() -> None:
    """Tables of several architectures of one data set lie side by side."""
    wanted = QueryPlan("single")
    for model, label in (
        ("cnn", "digits-pathological-3-single"),
        ("mlp", "digits-mlp-pathological-3-single"),
    ):
        federation = FederationPlan("digits", 5, PATHOLOGICAL, model)
        assert BenchPlan(federation, wanted, (0,), ()).label == label


def test_images_are_pooled_by_area() -> None:
    """A pixel is the mean of its block; sizes that do not divide are refused."""
    inputs = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4) / np.float32(16)
    data = LabelledData(inputs, np.zeros(1, np.int64), (ClassName("a"),))
    assert (pooled(data, 2).inputs * 16).tolist() == [[[[2.5, 4.5], [10.5, 12.5]]]]
    assert pooled(data, 0) is data
    with pytest.raises(UsageError, match="cannot be pooled to 3x3"):
        pooled(data, 3)


@pytest.mark.parametrize(
    "text", ["pathological", "pathological:0", "dirichlet:0", "dirichlet:x", "iid:3", ""]
)
def test_partitions_are_checked(text: str) -> None:
    """What is no partition is refused; what is one reads back."""
    with pytest.raises(UsageError, match="is not a partition"):
        parse_partition(text)
    assert str(parse_partition("dirichlet:0.1")) == "dirichlet:0.1"
