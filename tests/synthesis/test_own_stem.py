"""An asker's own stem, looked at as its teachers will look at it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from qkt_p2p.errors import ConfigError
from qkt_p2p.models import Classifier, build_classifier
from qkt_p2p.references import OwnModule
from qkt_p2p.synthesis.own_stem import own_stem
from qkt_p2p.synthesis.stem import Stem
from qkt_p2p.types import ClassName, Shape

SHAPE: Shape = (1, 8, 8)


def grouped(input_shape: Shape, classes: int) -> nn.Module:
    return behind(nn.Conv2d(1, 8, 3, padding=1), nn.GroupNorm(4, 8), numbers=512, classes=classes)


def gated(input_shape: Shape, classes: int) -> nn.Module:
    return behind(nn.Conv2d(1, 8, 3, padding=1), nn.GLU(1), numbers=256, classes=classes)


def behind(*stem: nn.Module, numbers: int, classes: int) -> nn.Module:
    return nn.Sequential(nn.Sequential(*stem), nn.Flatten(), nn.Linear(numbers, classes))


def model_of(factory: Any) -> Classifier:
    own = OwnModule(f"{__name__}:{factory.__name__}", "2")
    return build_classifier(own, input_shape=SHAPE, classes=[ClassName("a")], trained=[], seed=1).eval()


def test_teachers_take_group_normalization() -> None:
    """The exporter asks for shapes when the graph runs; these are written down before it travels."""
    model = model_of(grouped)
    stem = Stem.parse(own_stem(model), input_shape=SHAPE)
    inputs = torch.rand(70, *SHAPE)
    with torch.no_grad():
        expected = model.stem(1)(inputs).numpy()
    assert stem.feature_shape == (8, 8, 8)
    assert np.allclose(stem.features(inputs.numpy()), expected, atol=1e-3)


def test_a_stem_that_no_teacher_takes_is_an_error_of_its_asker() -> None:
    """An operator that is not listed is named before anybody is asked, with what to do."""
    model = model_of(gated)
    with pytest.raises(
        ConfigError, match=r"no teacher would take the first 1 blocks .* uses the operator Split"
    ) as caught:
        own_stem(model)
    assert "--medium moments" in caught.value.fix


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ("stem_graph.MAX_STEM_OPERATIONS", "multiplications a sample, allowed are 1000"),
        ("moments.MAX_CHUNK_BYTES", "samples of 512 numbers are too large to be described"),
    ],
)
def test_a_stem_that_costs_too_much_is_an_error_of_its_asker(
    monkeypatch: pytest.MonkeyPatch, limit: str, message: str
) -> None:
    """A ResNet-18 for 128x128 pixels multiplies too often; features may be too many for a recipe's chunk."""
    monkeypatch.setattr(f"qkt_p2p.synthesis.{limit}", 1000)
    with pytest.raises(ConfigError, match=message):
        own_stem(model_of(grouped))
