"""A classifier's stem, written as a graph."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from qkt_p2p.errors import ConfigError
from qkt_p2p.models import Classifier, build_classifier
from qkt_p2p.models.stem import export_stem
from qkt_p2p.synthesis.stem import Stem
from qkt_p2p.types import ClassName, Shape
from tests.synthesis.graphs import SHAPE, good, weights


def used(architecture: str, shape: Shape = (1, 8, 8)) -> Classifier:
    """Return a classifier whose normalization layers have seen something."""
    classifier = build_classifier(
        architecture, input_shape=shape, classes=[ClassName("a")], trained=[], seed=1
    )
    classifier(torch.rand(64, *shape, generator=torch.Generator().manual_seed(2)))
    return classifier


@dataclass(frozen=True)
class Case:
    architecture: str
    cut: int
    shape: Shape = (1, 8, 8)


@pytest.mark.parametrize(
    "case",
    [Case("mlp", 1), Case("cnn", 0), Case("cnn", 2), Case("cnn", 3, (3, 32, 32)), Case("resnet18", 3)],
    ids=str,
)
def test_a_stem_makes_the_features_of_its_classifier(case: Case) -> None:
    """Whoever runs the graph gets the classifier's own features within 1 %, in evaluation mode."""
    classifier = used(case.architecture, case.shape)
    stem = Stem.parse(export_stem(classifier, case.cut), input_shape=case.shape)
    assert classifier.training
    inputs = torch.rand(70, *case.shape)
    with torch.no_grad():
        expected = classifier.eval().stem(case.cut)(inputs).numpy()
    features = stem.features(inputs.numpy())
    assert stem.feature_shape == classifier.feature_shape(case.cut)
    assert np.abs(features - expected).max() <= 0.01 * np.abs(expected).max()


def test_the_same_weights_have_the_same_bytes(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """An export is reproducible, says nothing, names no file of this machine, and stores half numbers."""
    first, second = (export_stem(used("cnn"), 2) for _ in range(2))
    assert first == second
    assert "".join(capfd.readouterr()) == ""
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert b".py" not in first
    assert len(first) < 12_000


def test_weights_that_half_numbers_cannot_hold_are_stored_whole() -> None:
    """The largest half number is 65504."""
    classifier = used("cnn").eval()
    weight = next(classifier.backbone[1].parameters())
    with torch.no_grad():
        weight[0, 0, 0, 0] = 1e7
    stem = Stem.parse(export_stem(classifier, 2), input_shape=(1, 8, 8))
    inputs = torch.rand(3, 1, 8, 8)
    with torch.no_grad():
        expected = classifier.stem(2)(inputs).numpy()
    assert np.allclose(stem.features(inputs.numpy()), expected, rtol=1e-2, atol=1e-2 * expected.max())


def test_a_stem_that_peers_would_not_take_is_not_sent() -> None:
    """The whole of a ResNet-18 has 11 million weights."""
    with pytest.raises(ConfigError, match="peers take") as caught:
        export_stem(used("resnet18"), 5)
    assert "smaller cut" in caught.value.fix


def test_weights_that_nothing_takes_are_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Peers refuse them, and an exporter may leave some."""
    exported = good()
    exported.graph.initializer.append(weights("nobody's", 3))
    monkeypatch.setattr("qkt_p2p.models.stem._exported", lambda *_: exported)
    stem = Stem.parse(export_stem(used("cnn"), 2), input_shape=SHAPE)
    assert stem.feature_shape == (4, 4, 4)


class Branching(torch.nn.Module):
    """A block that no graph can hold."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs if inputs.sum().item() > 0 else inputs.flatten(1)


def test_a_block_that_is_no_graph_is_named() -> None:
    """What the exporter raises becomes one error of configuration."""
    classifier = used("cnn")
    classifier.backbone.insert(0, Branching())
    with pytest.raises(ConfigError, match="first 1 blocks of the model cannot be written"):
        export_stem(classifier, 1)
