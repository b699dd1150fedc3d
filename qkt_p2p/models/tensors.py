"""A classifier as named arrays with text metadata, the two halves of a safetensors file."""

from __future__ import annotations

import json
from contextlib import nullcontext
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save

from qkt_p2p.errors import ConfigError, UsageError
from qkt_p2p.files import parse_json
from qkt_p2p.limits import MAX_CLASSES, MAX_INPUT_ELEMENTS, MAX_SIDE
from qkt_p2p.models.classifier import Classifier, build_classifier
from qkt_p2p.models.numbers import unusable_numbers
from qkt_p2p.references import OwnModule
from qkt_p2p.types import ClassName, parse_class_name

if TYPE_CHECKING:
    from collections.abc import Mapping

Arrays = dict[str, npt.NDArray[Any]]

_ANOTHER_CLASS = ClassName("another class")
_DESCRIPTION = "description"
_FIX = "move the model file away; the node then trains a new one"


def classifier_to_arrays(classifier: Classifier) -> tuple[Arrays, dict[str, str]]:
    """Return the parameters and buffers by name, and the metadata that rebuilds the classifier."""
    arrays = {name: tensor.detach().cpu().numpy().copy() for name, tensor in classifier.state_dict().items()}
    built = classifier.architecture
    own = (
        {"head": json.dumps(built.head), "built_for": json.dumps(classifier.built_for)}
        if isinstance(built, OwnModule)
        else {}
    )
    metadata = {
        "architecture": json.dumps(built.factory if isinstance(built, OwnModule) else built),
        **own,
        "input_shape": json.dumps(classifier.input_shape),
        "classes": json.dumps(classifier.classes),
        "trained": json.dumps(classifier.trained),
    }
    return arrays, metadata


def classifier_from_arrays(
    arrays: Mapping[str, npt.NDArray[Any]], metadata: Mapping[str, str], *, own: OwnModule | None = None
) -> Classifier:
    """Return what `classifier_to_arrays` took apart; raises ConfigError where the parts do not fit.

    Of factories only that of `own` is ever called, and only for a file that was made with it. A built-in
    architecture takes no memory before the arrays turn out to fill it.
    """
    # A head that a factory made in another way than plainly gives way to a plain one as soon as it grows.
    classifier = _empty_classifier(metadata, own, plain_head="head.weight" in arrays)
    expected = classifier.state_dict()
    if arrays.keys() != expected.keys():
        names = ", ".join(sorted(arrays.keys() ^ expected.keys()))
        raise ConfigError(
            f"the model file does not hold a {classifier.architecture}: {names[:200]}", fix=_FIX
        )
    for name, tensor in expected.items():
        _check_array(arrays[name], tensor, name)
    filled = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    # Own modules may share tensors, which assigning would part.
    classifier.load_state_dict(filled, assign=classifier.device.type == "meta")
    if unusable := unusable_numbers(classifier):
        raise ConfigError(f"the model file holds {unusable}", fix=_FIX)
    return classifier.eval()


def _empty_classifier(metadata: Mapping[str, str], own: OwnModule | None, *, plain_head: bool) -> Classifier:
    try:
        fields = {
            key: parse_json(metadata[key]) for key in ("architecture", "input_shape", "classes", "trained")
        }
        made_with = OwnModule(str(fields["architecture"]), str(parse_json(metadata.get("head", '""'))))
        channels, height, width = (int(side) for side in fields["input_shape"])
        classes, trained = (
            [parse_class_name(name) for name in fields[key]] for key in ("classes", "trained")
        )
        # Files of earlier versions do not tell.
        built_for = int(parse_json(metadata.get("built_for", str(len(classes)))))
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
        raise ConfigError(f"the model file lacks usable metadata: {error!r}", fix=_FIX) from error
    sides_fit = all(1 <= side <= MAX_SIDE for side in (channels, height, width))
    if not sides_fit or channels * height * width > MAX_INPUT_ELEMENTS:
        raise ConfigError(f"the model file takes inputs of {(channels, height, width)}", fix=_FIX)
    classes_fit = 1 <= built_for <= len(set(classes)) == len(classes) <= MAX_CLASSES
    if not classes_fit or not set(trained) <= set(classes):
        raise ConfigError("the model file's classes do not fit together", fix=_FIX)
    # A module of the owner's own making may not know the device of tensors without memory.
    with nullcontext() if made_with == own else torch.device("meta"):
        return build_classifier(
            own if made_with == own else made_with.factory,
            input_shape=(channels, height, width),
            classes=classes,
            trained=trained,
            seed=0,
            built_for=built_for if made_with == own and plain_head else None,
        )


def require_rebuilt(classifier: Classifier) -> None:
    """Raise ConfigError where an own module, grown by a class, would not come back from its file as it was.

    To be asked of one on a CPU, before anything is spent on training it.
    """
    own = classifier.architecture
    if not isinstance(own, OwnModule):
        return
    grown = classifier.grown([_ANOTHER_CLASS], seed=0).eval()
    inputs = torch.linspace(0, 1, 2 * prod(classifier.input_shape)).view(2, *classifier.input_shape)
    try:
        again = classifier_from_arrays(*classifier_to_arrays(grown), own=own)
        with torch.no_grad():
            same = again(inputs).allclose(grown(inputs), atol=1e-4)
    # The module is the owner's own, and may raise anything.
    except Exception as error:
        raise _lost(own, f"cannot be loaded again from its file: {error}"[:300]) from error
    if not same:
        raise _lost(own, "answers otherwise when it is loaded again from its file")


def _lost(own: OwnModule, what: str) -> ConfigError:
    return ConfigError(
        f"the module of {own.factory}() {what}",
        fix="keep all that it answers by in float32 parameters and persistent buffers, alike at every call",
    )


def _check_array(array: npt.NDArray[Any], tensor: torch.Tensor, name: str) -> None:
    dtype = torch.empty(0, dtype=tensor.dtype).numpy().dtype
    if array.shape != tuple(tensor.shape) or array.dtype != dtype:
        raise ConfigError(
            f"the model file's {name} is {array.dtype} {array.shape}, expected {tuple(tensor.shape)}",
            fix=_FIX,
        )


def classifier_to_bytes(classifier: Classifier) -> bytes:
    """Return a classifier as one safetensors file that can travel, the same for the same weights.

    Weights are rounded to float16, which its answers bear (docs/method.md), but for those beyond its range.
    """
    arrays, metadata = classifier_to_arrays(classifier)
    description = np.frombuffer(json.dumps(metadata, sort_keys=True).encode(), np.uint8)
    named = {
        name: _travelling(np.ascontiguousarray(array).reshape(array.shape)) for name, array in arrays.items()
    }
    return bytes(save({**named, _DESCRIPTION: description}))


def classifier_from_bytes(data: bytes) -> Classifier:
    """Return the classifier of a built-in architecture that a stranger sent; raises ConfigError."""
    try:
        arrays = load(data)
        metadata = parse_json(arrays.pop(_DESCRIPTION).tobytes())
    except (SafetensorError, KeyError, ValueError) as error:
        raise ConfigError(f"what came is no model file: {error!r}"[:300], fix=_FIX) from error
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ConfigError("the model that came has no usable description", fix=_FIX)
    return classifier_from_arrays({name: _as_built(array) for name, array in arrays.items()}, metadata)


def _travelling(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    fits = array.dtype == np.float32 and np.abs(array).max(initial=0) <= np.finfo(np.float16).max
    return array.astype(np.float16) if fits else array


def _as_built(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return an array that travelled as a model of a built-in architecture has it."""
    return array.astype(np.float32) if array.dtype == np.float16 else array
