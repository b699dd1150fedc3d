"""A classifier taken apart and put together again."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from qkt_p2p.errors import ConfigError
from qkt_p2p.models import (
    Classifier,
    build_classifier,
    classifier_from_arrays,
    classifier_from_bytes,
    classifier_to_arrays,
    classifier_to_bytes,
)
from qkt_p2p.types import ClassName

A, B = ClassName("a"), ClassName("b")
Parts = tuple[dict[str, np.ndarray[Any, Any]], dict[str, str]]


def parts() -> Parts:
    classifier = build_classifier("cnn", input_shape=(1, 8, 8), classes=[A, B], trained=[B], seed=1)
    return classifier_to_arrays(classifier)


@pytest.mark.parametrize("architecture", ["cnn", "mlp"])
def test_a_classifier_survives_the_way_there_and_back(architecture: str) -> None:
    """Logits, classes and what was learned are the same afterwards."""
    before = build_classifier(architecture, input_shape=(1, 8, 8), classes=[A, B], trained=[B], seed=1)
    before(torch.rand(16, 1, 8, 8))
    after = classifier_from_arrays(*classifier_to_arrays(before))
    inputs = torch.rand(4, 1, 8, 8)
    assert torch.equal(before.eval()(inputs), after(inputs))
    assert (after.architecture, after.input_shape) == (architecture, (1, 8, 8))
    assert (after.classes, after.trained) == ((A, B), (B,))


@pytest.mark.parametrize("architecture", ["cnn", "mlp", "resnet18"])
def test_a_classifier_travels_in_half_the_bytes(architecture: str) -> None:
    """Weights are within half precision, and so are answers; counters and what was learned are the same."""
    before = build_classifier(architecture, input_shape=(1, 16, 16), classes=[A, B], trained=[B], seed=1)
    before(torch.rand(16, 1, 16, 16))
    file = classifier_to_bytes(before)
    after = classifier_from_bytes(file)
    assert len(file) < 0.52 * sum(array.nbytes for array in classifier_to_arrays(before)[0].values()) + 10_000
    for name, tensor in before.state_dict().items():
        found = after.state_dict()[name]
        assert found.dtype == tensor.dtype
        assert torch.allclose(found, tensor, rtol=1e-3, atol=1e-6), name
    inputs = torch.rand(4, 1, 16, 16)
    assert torch.allclose(before.eval()(inputs).softmax(1), after(inputs).softmax(1), atol=0.01)
    assert (after.architecture, after.classes, after.trained) == (architecture, (A, B), (B,))


def test_weights_beyond_half_precision_travel_whole() -> None:
    """A variance of a million stays one."""
    before = build_classifier("cnn", input_shape=(1, 8, 8), classes=[A, B], trained=[B], seed=1)
    norm = next(layer for layer in before.modules() if isinstance(layer, torch.nn.BatchNorm2d))
    assert norm.running_var is not None
    norm.running_var.fill_(1e6)
    after = classifier_from_bytes(classifier_to_bytes(before))
    assert 1e6 in {float(tensor.max()) for tensor in after.state_dict().values()}


def drop_array(arrays: Any, metadata: Any) -> None:
    del arrays["head.bias"]


def add_array(arrays: Any, metadata: Any) -> None:
    arrays["extra"] = np.zeros(1)


def widen_head(arrays: Any, metadata: Any) -> None:
    arrays["head.weight"] = np.zeros((3, 32), np.float32)


def change_type(arrays: Any, metadata: Any) -> None:
    arrays["head.bias"] = arrays["head.bias"].astype(np.float64)


def spoil(arrays: Any, metadata: Any) -> None:
    arrays["head.bias"][0] = np.nan


def rename_architecture(arrays: Any, metadata: Any) -> None:
    metadata["architecture"] = json.dumps("mlp")


def unknown_architecture(arrays: Any, metadata: Any) -> None:
    metadata["architecture"] = json.dumps({"code": "run me"})


def drop_metadata(arrays: Any, metadata: Any) -> None:
    del metadata["trained"]


def garble_metadata(arrays: Any, metadata: Any) -> None:
    metadata["classes"] = "[1,"


def wrong_shape(arrays: Any, metadata: Any) -> None:
    metadata["input_shape"] = "[1, 8]"


def huge_shape(arrays: Any, metadata: Any) -> None:
    metadata["input_shape"] = "[1, 99999999, 99999999]"


def repeated_class(arrays: Any, metadata: Any) -> None:
    metadata["classes"] = '["a", "a"]'


def nest_metadata(arrays: Any, metadata: Any) -> None:
    metadata["classes"] = "[" * 5000


def infinite_shape(arrays: Any, metadata: Any) -> None:
    metadata["input_shape"] = "[1, 8, 1e999]"


@pytest.mark.parametrize(
    "damage",
    [
        drop_array,
        add_array,
        widen_head,
        change_type,
        spoil,
        rename_architecture,
        unknown_architecture,
        drop_metadata,
        garble_metadata,
        wrong_shape,
        huge_shape,
        repeated_class,
        nest_metadata,
        infinite_shape,
    ],
)
def test_parts_that_do_not_fit_are_refused(damage: Callable[[Any, Any], None]) -> None:
    """A file of another architecture, or a damaged one, is a configuration error."""
    arrays, metadata = parts()
    damage(arrays, metadata)
    with pytest.raises(ConfigError):
        classifier_from_arrays(arrays, metadata)


def test_a_description_without_end_is_refused() -> None:
    """What a stranger sends may be nested deeper than Python's stack."""
    description = np.frombuffer(b"[" * 100_000, np.uint8)
    with pytest.raises(ConfigError, match="no model file"):
        classifier_from_bytes(save({"description": description}))


def test_a_small_file_takes_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may describe a model of 400 MB: nothing is allocated before the arrays turn out to be missing."""
    built: list[Classifier] = []

    def noted(*arguments: Any, **options: Any) -> Classifier:
        built.append(build_classifier(*arguments, **options))
        return built[-1]

    monkeypatch.setattr("qkt_p2p.models.tensors.build_classifier", noted)
    arrays, metadata = parts()
    metadata |= {"architecture": json.dumps("mlp"), "input_shape": json.dumps([3, 512, 512])}
    description = np.frombuffer(json.dumps(metadata).encode(), np.uint8)
    with pytest.raises(ConfigError, match="does not hold a mlp"):
        classifier_from_bytes(save({**arrays, "description": description}))
    (described,) = built
    assert {tensor.device.type for tensor in described.state_dict().values()} == {"meta"}
