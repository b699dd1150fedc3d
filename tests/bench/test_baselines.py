"""The baselines do what their names say."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from qkt_bench.averaging import Averaging, average_rounds, average_states, initial_model, state_bytes
from qkt_bench.baselines import Averaged, FineTuned, Local, MeanOfAll, NaiveDistillation
from qkt_bench.federation import Federation
from qkt_bench.methods import Method, MethodResult
from qkt_bench.plan import QueryPlan
from qkt_bench.predictors import Ensemble, Single, accuracies
from qkt_bench.queries import BenchQuery, make_queries
from qkt_bench.shared_models import Rounds
from qkt_bench.training import Recipe, samples_of, train_epochs
from qkt_p2p.models import class_accuracies
from qkt_p2p.seeds import derived_seed
from qkt_p2p.types import ClassName

ROUNDS = Rounds(total=4, tuning=1, every=2)
ONCE = Averaging(1, Recipe("sgd", 0.03, 1))


@pytest.fixture
def query(federation: Federation) -> BenchQuery:
    return make_queries(federation, QueryPlan("single"))[0]


def measured(federation: Federation, query: BenchQuery, result: MethodResult) -> dict[ClassName, float]:
    """Accuracies on test data, jointly over own and query classes."""
    assert result.predictor is not None
    among = (*federation.node(query.asker).local, *query.classes)
    return accuracies(result.predictor, federation.test, among)


def test_a_mean_weighs_by_samples() -> None:
    """Numbers are averaged with their weights; counters are left alone."""
    states = [{"w": torch.tensor([value]), "n": torch.tensor(3)} for value in (0.0, 4.0)]
    mean = average_states(states, [3.0, 1.0])
    assert (mean["w"].item(), mean["n"].item()) == (1.0, 3)


def test_averaging_identical_nodes_equals_one(federation: Federation) -> None:
    """Where all nodes hold and do the same, the global model is each of theirs."""
    alone = replace(federation, nodes=federation.nodes[:1])
    model = average_rounds(alone, ONCE, after_round=lambda *_: None)
    expected = initial_model(federation)
    seed = derived_seed(federation.seed, "averaging", "1", "0")
    train_epochs(
        expected,
        samples_of(federation.nodes[0].train, expected),
        ONCE.local,
        generator=torch.Generator().manual_seed(seed),
    )
    same = average_states([expected.state_dict()] * 3, [1.0, 2.0, 3.0])
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, expected.state_dict()[name])
        torch.testing.assert_close(tensor, same[name])


def test_the_proximal_term_holds_the_model_back(federation: Federation) -> None:
    """A large mu leaves the parameters closer to where they began."""

    def moved(mu: float) -> float:
        start = initial_model(federation)
        model = average_rounds(federation, replace(ONCE, mu=mu), after_round=lambda *_: None)
        pairs = zip(model.parameters(), start.parameters(), strict=True)
        return sum(float((a - b).detach().square().sum()) for a, b in pairs)

    assert moved(5.0) < moved(0.0)


def test_averaging_counts_float_parameters_both_ways(federation: Federation, query: BenchQuery) -> None:
    """Every node moves the whole model up and down in each round, and the curve ends at that."""
    result = Averaged("fedavg", rounds=ROUNDS).run(federation, query, progress=lambda _: None)
    one_way = state_bytes(federation.nodes[0].classifier)
    parameters = sum(p.numel() for p in federation.nodes[0].classifier.parameters())
    assert one_way > 4 * parameters
    assert (result.bytes_sent, result.bytes_received) == (4 * one_way, 4 * one_way)
    assert result.bytes_federation == 3 * 8 * one_way
    assert [point.bytes for point in result.curve] == [4 * one_way, 8 * one_way]
    found = measured(federation, query, result)
    assert result.curve[-1].query == pytest.approx(found[query.classes[0]])


def test_each_baseline_answers(federation: Federation, query: BenchQuery) -> None:
    """All leave a predictor over own and query classes, and say what they chose on validation data."""
    methods: list[Method] = [
        Local(),
        Averaged("fedprox", proximal=True, rounds=ROUNDS),
        FineTuned(rounds=ROUNDS),
        NaiveDistillation(),
        MeanOfAll(),
    ]
    own = federation.node(query.asker).local
    for method in methods:
        result = method.run(federation, query, progress=lambda _: None)
        assert measured(federation, query, result).keys() == {*own, *query.classes}
        assert ("grid" in method.configuration) == ("grid" in result.chosen)
    alone = measured(federation, query, Local().run(federation, query, progress=lambda _: None))
    assert alone[query.classes[0]] < 0.2
    assert min(alone[name] for name in own) > 0.8


def test_accuracies_are_the_products(federation: Federation) -> None:
    """One classifier is measured as the product measures it, also where the head covers more."""
    classifier = federation.nodes[0].classifier
    among = classifier.trained[:2]
    assert accuracies(Single(classifier), federation.test, among) == pytest.approx(
        class_accuracies(classifier, federation.test, among=among)
    )


def test_an_ensemble_of_one_is_that_one(federation: Federation) -> None:
    """Over the whole label space, or the classes that were learned."""
    node = federation.nodes[0]
    alone, ensemble = Single(node.classifier), Ensemble((node.classifier,))
    for among in (node.local, federation.classes):
        assert accuracies(alone, federation.test, among) == accuracies(ensemble, federation.test, among)
