"""A user's own module as a classifier."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from qkt_p2p.errors import ConfigError
from qkt_p2p.models import build_classifier, classifier_from_arrays, classifier_to_arrays, require_rebuilt
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
        (own("softened"), "does more in or after fc"),
        (own("cosine", "1"), "does more in or after 1"),
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


class Assisted(Net):
    """Has a second head, which training may use, and only the first answers."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__(inputs, classes)
        self.auxiliary = nn.Linear(12, classes)


class Tied(Net):
    """Answers by the weights of its own first layer."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__(inputs, classes)
        self.scale = nn.Linear(12, classes)
        self.fc.weight = self.scale.weight


def assisted(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    return Assisted(64, classes)


def tied(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    return Tied(64, classes)


def normed_head(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    made = Net(64, classes)
    made.fc = weight_norm(made.fc)
    return made


@pytest.mark.parametrize("name", ["net", "assisted", "tied", "normed_head"])
def test_a_grown_module_comes_back_by_a_factory_of_fewer_classes(name: str) -> None:
    """Other layers than the head may be as many as the classes that it was made for."""
    first = build_classifier(own(name), input_shape=SHAPE, classes=[A, B], trained=[A, B], seed=1).eval()
    require_rebuilt(first)
    inputs = torch.rand(3, *SHAPE)
    for model in (
        first,
        first.grown([C], seed=2).eval(),
        first.grown([A, C], seed=2).grown([B], seed=3).eval(),
    ):
        again = classifier_from_arrays(*classifier_to_arrays(model), own=own(name))
        assert torch.equal(again(inputs), model(inputs))
        assert (again.classes, again.built_for) == (model.classes, 2)
        assert again.grown([ClassName("d")], seed=4).built_for == 2


def test_files_of_earlier_versions_do_not_tell_what_they_were_built_for() -> None:
    """Their factory is told of all the classes that they have, as it was then."""
    grown = build_classifier(own("net"), input_shape=SHAPE, classes=[A, B], trained=[A, B], seed=1).grown(
        [C], seed=2
    )
    arrays, metadata = classifier_to_arrays(grown.eval())
    del metadata["built_for"]
    inputs = torch.rand(3, *SHAPE)
    assert torch.equal(classifier_from_arrays(arrays, metadata, own=own("net"))(inputs), grown(inputs))


class Projected(Net):
    """Projects at random, by a tensor that no file holds."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__(inputs, classes)
        self.projection = torch.rand(inputs, inputs)

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs.flatten(1) @ self.projection)


class Noted(Net):
    """Keeps something in its state that is no tensor."""

    def get_extra_state(self) -> str:
        return "a note"

    def set_extra_state(self, state: str) -> None:
        """Forget it."""


class Cosine(nn.Linear):
    """Compares directions alone."""

    def forward(self, inputs: Tensor) -> Tensor:
        return nn.functional.linear(nn.functional.normalize(inputs), self.weight, self.bias)


def projected(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    return Projected(64, classes)


def noted(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    return Noted(64, classes)


def cosine(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), Cosine(64, classes))


@pytest.mark.parametrize(
    ("name", "message"), [("projected", "answers otherwise"), ("noted", "cannot be loaded again")]
)
def test_a_module_that_its_file_does_not_hold_is_refused_before_it_is_trained(
    name: str, message: str
) -> None:
    """It would answer otherwise after the next start, or not at all."""
    made = build_classifier(own(name), input_shape=SHAPE, classes=[A], trained=[A], seed=1)
    with pytest.raises(ConfigError, match=f"{name}.* {message}") as caught:
        require_rebuilt(made)
    assert "buffers" in caught.value.fix
