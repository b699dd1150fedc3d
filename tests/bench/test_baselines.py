"""The baselines do what their names say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from qkt_bench.averaging import Averaging, average_rounds, average_states, initial_model, state_bytes
from qkt_bench.baselines import Averaged, FineTuned, Local, MeanOfAll, NaiveDistillation
from qkt_bench.cache import Cache
from qkt_bench.federation import Federation
from qkt_bench.methods import Method, MethodResult
from qkt_bench.plan import QueryPlan
from qkt_bench.predictors import Ensemble, Single, accuracies
from qkt_bench.queries import BenchQuery, make_queries
from qkt_bench.shared_models import Rounds, tuned
from qkt_bench.training import Recipe, samples_of, train_epochs, with_augmented
from qkt_p2p.datasets import LabelledData
from qkt_p2p.models import build_classifier, class_accuracies
from qkt_p2p.seeds import derived_seed
from qkt_p2p.types import Augmentation, ClassName

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


def test_annealed_averaging_trains_in_ever_smaller_steps() -> None:
    """The first round takes the whole rate, later ones less, and nothing else changes."""
    settings = Averaging(4, Recipe("sgd", 0.1, 2), annealed=True)
    recipes = [settings.recipe(done) for done in range(4)]
    assert recipes[0] == settings.local
    rates = [recipe.learning_rate for recipe in recipes]
    assert rates == sorted(rates, reverse=True)
    assert rates[2] == pytest.approx(0.05)
    assert replace(recipes[3], learning_rate=0.1) == settings.local
    assert replace(settings, annealed=False).recipe(3) == settings.local


def test_averaging_may_choose_what_augments_the_first_models(federation: Federation, tmp_path: Path) -> None:
    """Every recipe is tried with and without annealing, and where images can be shifted with shifts, too."""

    def doubled(data: LabelledData) -> LabelledData:
        return LabelledData(data.inputs.repeat(2, axis=2).repeat(2, axis=3), data.labels, data.classes)

    assert federation.augment == "none", "images of 8 pixels stay as they are"
    nodes = [replace(n, train=doubled(n.train), holdout=doubled(n.holdout)) for n in federation.nodes]
    shifting = replace(federation, nodes=tuple(nodes), test=doubled(federation.test), cache=Cache(tmp_path))
    assert shifting.augment == "shifts"
    tried = {
        name: {
            (choice["settings"]["local"]["augment"], choice["settings"]["annealed"])
            for choice in tuned(each, ROUNDS, proximal=False, say=lambda _: None)["grid"]
        }
        for name, each in (("plain", federation), ("shifts", replace(shifting, reference=lambda: shifting)))
    }
    assert tried["plain"] == {("none", False), ("none", True)}
    assert tried["shifts"] == {(augment, how) for augment in ("none", "shifts") for how in (False, True)}
    recipes = with_augmented([Recipe("sgd", 0.1, 1)], "shifts")
    assert [recipe.augment for recipe in recipes] == ["none", "shifts"]


def test_shifted_batches_train_another_model(federation: Federation) -> None:
    """Recipes that shift draw what they see anew in each epoch, and images of eight pixels not at all."""

    def trained(augment: Augmentation, side: int) -> torch.Tensor:
        own = samples_of(federation.nodes[0].train, start := initial_model(federation))
        images = torch.nn.functional.interpolate(own.inputs, size=side)
        model = build_classifier(
            "cnn",
            input_shape=(1, side, side),
            classes=start.classes,
            trained=start.classes,
            seed=0,
        )
        recipe = replace(ONCE.local, augment=augment)
        train_epochs(model, replace(own, inputs=images), recipe, generator=torch.Generator().manual_seed(0))
        return model.head.weight

    assert torch.equal(trained("none", 8), trained("shifts", 8))
    assert not torch.equal(trained("none", 16), trained("shifts", 16))
