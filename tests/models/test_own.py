"""A user's own module as a classifier."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

from qkt_p2p.errors import ConfigError
from qkt_p2p.models import build_classifier, classifier_from_arrays, classifier_to_arrays
from qkt_p2p.references import OwnModule
from qkt_p2p.types import ClassName

SHAPE = (1, 8, 8)
A, B, C = (ClassName(name) for name in "abc")


class Net(nn.Module):
    """What many tutorials end with: layers, and a last one called fc."""

    def __init__(self, inputs: int, classes: int, *, bias: bool = True) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(inputs, 12), nn.BatchNorm1d(12), nn.ReLU())
        self.fc = nn.Linear(12, classes, bias=bias)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.body(inputs))
        return logits


class Softened(Net):
    """Answers by probabilities."""

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs).softmax(1)


class Endless(Net):
    """Answers by nothing useful."""

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs) / 0


def net(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    return Net(input_shape[0] * input_shape[1] * input_shape[2], classes)


def without_bias(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    return Net(64, classes, bias=False)


def layers(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, classes))


def nested_layers(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.Sequential(nn.Tanh(), nn.Linear(9, classes)))


def reused_layers(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    tanh = nn.Tanh()
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 9), tanh, nn.Linear(9, 9), tanh, nn.Linear(9, classes))


def reused_nested_layers(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    tanh = nn.Tanh()
    head = nn.Sequential(nn.Flatten(), nn.Linear(9, classes))
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 9), tanh, nn.Linear(9, 9), tanh, head)


def shared_weights(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    layer = nn.Linear(64, 64)
    return nn.Sequential(nn.Flatten(), layer, nn.Tanh(), layer, nn.Linear(64, classes))


def number(input_shape: tuple[int, int, int], classes: int) -> int:
    return classes


def other_size(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    return Net(7, classes)


def other_classes(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    return Net(64, 1000)


def softened(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    return Softened(64, classes)


def endless(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    return Endless(64, classes)


def answers_by_two(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.LSTM(64, classes), nn.Linear(1, 1))


def own(name: str, head: str = "fc") -> OwnModule:
    return OwnModule(f"{__name__}:{name}", head)


@pytest.mark.parametrize(
    ("module", "blocks", "cut"),
    [
        (own("net"), 1, 1),
        (own("without_bias"), 1, 1),
        (own("layers", "3"), 3, 2),
        (own("nested_layers", "2.1"), 3, 2),
        (own("reused_layers", "5"), 5, 4),
        (own("reused_nested_layers", "5.1"), 6, 5),
        (own("shared_weights", "4"), 4, 4),
    ],
    ids=str,
)
def test_an_own_module_is_cut_grown_and_kept(module: OwnModule, blocks: int, cut: int) -> None:
    """It does all that a built-in architecture does, and comes back from its file by the same factory."""
    before = build_classifier(module, input_shape=SHAPE, classes=[A, B], trained=[A], seed=1).eval()
    inputs = torch.rand(3, *SHAPE)
    assert (len(before.backbone), before.cut) == (blocks, cut)
    for some in range(blocks + 1):
        assert torch.equal(before.after(some)(before.stem(some)(inputs)), before(inputs))
    grown = before.grown([C], seed=2).eval()
    assert torch.equal(grown(inputs)[:, :1], before(inputs)[:, :1])
    again = classifier_from_arrays(*classifier_to_arrays(grown), own=module)
    assert torch.equal(again(inputs), grown(inputs))
    assert (again.architecture, again.cut, again.classes) == (module, cut, (A, B, C))


def test_an_own_module_starts_by_its_seed() -> None:
    """The factory draws from the seed that every classifier starts by."""
    first, second, other = (
        build_classifier(own("net"), input_shape=SHAPE, classes=[A], trained=[], seed=seed).head.weight
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (OwnModule("no_such_module:net", "fc"), "cannot load a model from no_such_module:net"),
        (own("no_such_function"), "no_such_function"),
        (own("number"), "returned int"),
        (own("net", "head"), "has no head"),
        (own("net", "body.2"), "has a BatchNorm1d as body.2"),
        (own("net", ""), "has a Net as "),
        (own("net", "body.1"), "fails on inputs of"),
        (own("other_size"), "fails on inputs of"),
        (own("other_classes"), r"answers 2 inputs by \(2, 1000\)"),
        (own("softened"), "does more after fc"),
        (own("endless"), "NaN or infinite"),
        (own("answers_by_two", "2"), "fails on inputs of"),
    ],
    ids=str,
)
def test_a_module_that_is_no_classifier_is_refused(module: OwnModule, message: str) -> None:
    """The error names the factory, what it does, and what to change."""
    with pytest.raises(ConfigError, match=message) as caught:
        build_classifier(module, input_shape=SHAPE, classes=[A, B], trained=[], seed=0)
    assert module.factory in caught.value.message
    assert caught.value.fix


@pytest.mark.parametrize("configured", [None, own("layers", "3"), own("net", "body.1")], ids=str)
def test_a_file_never_chooses_what_is_called(configured: OwnModule | None) -> None:
    """A file that names another factory or head than node.toml is refused, and nothing is called."""
    made = build_classifier(own("net"), input_shape=SHAPE, classes=[A], trained=[], seed=0)
    arrays, metadata = classifier_to_arrays(made)
    assert json.loads(metadata["architecture"]) == f"{__name__}:net"
    with pytest.raises(ConfigError, match="no built-in architecture"):
        classifier_from_arrays(arrays, metadata, own=configured)
