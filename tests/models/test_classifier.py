"""The built-in architectures and the growing head."""

from __future__ import annotations

import pytest
import torch

from qkt_p2p.errors import ConfigError
from qkt_p2p.models import ARCHITECTURES, Classifier, build_classifier
from qkt_p2p.types import ClassName, Shape

A, B, C, D = (ClassName(name) for name in "abcd")


def classifier_of(architecture: str = "cnn", shape: Shape = (1, 8, 8)) -> Classifier:
    return build_classifier(architecture, input_shape=shape, classes=[A, B, C], trained=[B, A], seed=1).eval()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64), (1, 1, 30), (2, 5, 3)])
def test_every_architecture_takes_every_shape(architecture: str, shape: Shape) -> None:
    """Logits have a column per class, whatever the input's size."""
    classifier = classifier_of(architecture, shape)
    assert classifier(torch.rand(2, *shape)).shape == (2, 3)
    assert classifier.trained == (A, B)
    assert classifier.rows([C, A, D]) == [0, 2]


def test_the_same_seed_builds_the_same_classifier() -> None:
    """Initial parameters depend on the seed alone, and torch's own state stays as it was."""
    state = torch.get_rng_state()
    inputs = torch.full((1, 1, 8, 8), 0.5)
    assert torch.equal(classifier_of()(inputs), classifier_of()(inputs))
    assert torch.equal(torch.get_rng_state(), state)


def test_an_unknown_architecture_is_refused() -> None:
    """The error lists the architectures there are."""
    with pytest.raises(ConfigError, match="resnet9000") as caught:
        classifier_of("resnet9000")
    assert "mlp" in caught.value.fix


def test_a_grown_head_keeps_what_it_knew() -> None:
    """Rows of learned classes stay, a row of an unlearned class is drawn afresh, a new one appended."""
    before = classifier_of()
    after = before.grown([C, D], seed=5).eval()
    assert after.classes == (A, B, C, D)
    assert after.trained == (A, B, C, D)
    assert torch.equal(after.head.weight[:2], before.head.weight[:2])
    assert not torch.equal(after.head.weight[2], before.head.weight[2])
    inputs = torch.rand(3, 1, 8, 8)
    assert torch.allclose(after(inputs)[:, :2], before(inputs)[:, :2])


def test_growing_for_a_known_class_changes_nothing() -> None:
    """A class that was learned keeps its row, and the copy shares no memory with the original."""
    before = classifier_of()
    after = before.grown([A], seed=5).eval()
    inputs = torch.rand(3, 1, 8, 8)
    assert torch.equal(after(inputs), before(inputs))
    with torch.no_grad():
        after.head.weight.zero_()
        next(after.backbone.parameters()).zero_()
    assert before.head.weight.any()
    assert next(before.backbone.parameters()).any()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_stem_and_rest_make_the_classifier(architecture: str) -> None:
    """At every cut the two parts answer as the whole does, and the features have the shape announced."""
    whole = classifier_of(architecture, (3, 16, 16))
    inputs = torch.rand(2, 3, 16, 16)
    for cut in range(len(whole.backbone) + 1):
        features = whole.stem(cut)(inputs)
        assert features.shape == (2, *whole.feature_shape(cut))
        assert torch.equal(whole.after(cut)(features), whole(inputs))
    assert whole.feature_shape(0) == (3, 16, 16)
    assert 0 < whole.cut < len(whole.backbone)


def test_both_parts_share_their_parameters_with_the_classifier() -> None:
    """Training the rest trains the classifier; asking for a shape changes nothing, the mode included."""
    whole = classifier_of().train()
    parts = [*whole.stem(2).parameters(), *whole.after(2).parameters()]
    assert [id(part) for part in parts] == [id(parameter) for parameter in whole.parameters()]
    assert whole.feature_shape(2) == (32, 2, 2)
    assert all(module.training for module in whole.modules())


def test_a_grown_classifier_is_cut_where_the_old_one_was() -> None:
    """The cut belongs to the architecture."""
    before = classifier_of()
    after = before.grown([D], seed=5)
    assert after.cut == before.cut == 2
    assert after.feature_shape(after.cut) == before.feature_shape(before.cut)


def test_resnet18_has_the_parameters_of_the_original() -> None:
    """As published for small images: 11.2 million for ten classes; features after the cut are 128x16x16."""
    resnet = build_classifier(
        "resnet18",
        input_shape=(3, 32, 32),
        classes=[ClassName(str(at)) for at in range(10)],
        trained=[],
        seed=0,
    )
    assert sum(parameter.numel() for parameter in resnet.parameters()) == 11_173_962
    assert resnet.feature_shape(resnet.cut) == (128, 16, 16)
