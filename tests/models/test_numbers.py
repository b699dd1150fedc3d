"""Which numbers a model may hold."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from qkt_p2p.errors import ConfigError
from qkt_p2p.models import (
    Classifier,
    build_classifier,
    classifier_from_arrays,
    classifier_from_bytes,
    classifier_to_arrays,
    classifier_to_bytes,
    unusable_numbers,
)
from qkt_p2p.references import OwnModule
from qkt_p2p.types import ClassName, Shape

A = ClassName("a")
NAN, INF = float("nan"), float("inf")


class Attending(nn.Module):
    """Hides later positions from earlier ones by a mask of infinity."""

    def __init__(self, positions: int, classes: int) -> None:
        super().__init__()
        self.mask = nn.Buffer(torch.full((positions, positions), -INF).triu(1))
        self.fc = nn.Linear(positions, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        rows = inputs.flatten(1)
        attention = (rows[:, :, None] * rows[:, None] + self.mask).softmax(-1)
        logits: Tensor = self.fc((attention @ rows[:, :, None]).squeeze(-1))
        return logits


def attending(input_shape: Shape, classes: int) -> nn.Module:
    return Attending(16, classes)


OWN = OwnModule(f"{__name__}:attending", "fc")


def model_of(architecture: str | OwnModule) -> Classifier:
    return build_classifier(architecture, input_shape=(1, 4, 4), classes=[A], trained=[A], seed=1).eval()


def test_a_mask_of_infinity_is_no_damage() -> None:
    """Such a module is saved, loaded, and answers as before."""
    model = model_of(OWN)
    assert unusable_numbers(model) == ""
    again = classifier_from_arrays(*classifier_to_arrays(model), own=OWN)
    inputs = torch.rand(3, 1, 4, 4)
    assert torch.equal(again(inputs), model(inputs))


@pytest.mark.parametrize(
    ("architecture", "name", "number", "told"),
    [
        ("mlp", "head.bias", NAN, "NaN or infinite numbers in head.bias"),
        ("mlp", "head.weight", INF, "NaN or infinite numbers in head.weight"),
        ("mlp", "backbone.0.2.running_mean", INF, "NaN or infinite numbers in backbone.0.2.running_mean"),
        ("mlp", "backbone.0.2.running_var", INF, "NaN or infinite numbers in backbone.0.2.running_var"),
        ("mlp", "backbone.0.2.running_var", -1.0, "negative variances in backbone.0.2.running_var"),
        (OWN, "backbone.0.mask", NAN, "NaN in backbone.0.mask"),
    ],
)
def test_numbers_that_no_model_works_with_are_named(
    architecture: str | OwnModule, name: str, number: float, told: str
) -> None:
    """A file that holds them is refused, and tells which."""
    model = model_of(architecture)
    model.state_dict()[name].view(-1)[0] = number
    assert unusable_numbers(model) == told
    own = architecture if isinstance(architecture, OwnModule) else None
    with pytest.raises(ConfigError, match=f"the model file holds {told}"):
        classifier_from_arrays(*classifier_to_arrays(model), own=own)


def test_a_model_that_came_with_negative_variances_is_refused() -> None:
    """Its answers would be NaN, and so would all that is distilled from them."""
    model = model_of("mlp")
    model.state_dict()["backbone.0.2.running_var"].fill_(-1.0)
    with pytest.raises(ConfigError, match="negative variances"):
        classifier_from_bytes(classifier_to_bytes(model))
