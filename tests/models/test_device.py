"""Where learning runs."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from torch.overrides import TorchFunctionMode

from qkt_node.settings import NodeSection
from qkt_p2p.errors import ConfigError
from qkt_p2p.models import build_classifier, choose_device
from qkt_p2p.models.device import DeviceChoice, mixed_precision
from qkt_p2p.types import ClassName


class OneDevice(TorchFunctionMode):
    """Fails where a tensor's items are set from another device: CUDA refuses that, "meta" ignores it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.__setitem__:
            target, _, value = args
            assert target.device == value.device
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("wanted", "present", "chosen"),
    [
        ("auto", False, "cpu"),
        ("auto", True, "cuda"),
        ("cpu", True, "cpu"),
        ("cpu", False, "cpu"),
        ("cuda", True, "cuda"),
    ],
)
def test_the_device_is_chosen_at_run_time(
    monkeypatch: pytest.MonkeyPatch, wanted: DeviceChoice, present: bool, chosen: str
) -> None:
    """CUDA is taken where there is one, unless the owner says no."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: present)
    assert choose_device(wanted).type == chosen


def test_a_device_that_is_asked_for_and_absent_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node whose owner wants CUDA does not learn on a CPU in silence."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no CUDA device") as caught:
        choose_device("cuda")
    assert "[node] device" in caught.value.fix


def test_on_a_cpu_precision_is_never_mixed() -> None:
    """Figures on a CPU are those of float32."""
    classifier = build_classifier(
        "cnn", input_shape=(1, 8, 8), classes=[ClassName("a")], trained=[], seed=0
    ).eval()
    inputs = torch.rand(2, 1, 8, 8)
    with mixed_precision(classifier.device):
        logits = classifier(inputs)
    assert logits.dtype == torch.float32
    assert torch.equal(logits, classifier(inputs))


def test_a_classifier_is_grown_where_it_is() -> None:
    """New rows of the head are on the device of the old ones."""
    classifier = build_classifier(
        "mlp", input_shape=(1, 8, 8), classes=[ClassName("a")], trained=[], seed=0
    ).to("meta")
    with OneDevice():
        grown = classifier.grown([ClassName("b")], seed=0)
    assert {parameter.device for parameter in grown.parameters()} == {classifier.device}
    assert classifier.device.type == "meta"


def test_choices_are_those_of_node_toml() -> None:
    """The daemon names them without importing torch."""
    assert get_args(NodeSection.model_fields["device"].annotation) == get_args(DeviceChoice)
