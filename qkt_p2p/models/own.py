"""The owner's own module as a backbone and a head."""

from __future__ import annotations

import copy
from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from qkt_p2p.errors import ConfigError
from qkt_p2p.references import call_reference

if TYPE_CHECKING:
    from qkt_p2p.references import OwnModule
    from qkt_p2p.types import Shape


def load_own(own: OwnModule, *, input_shape: Shape, classes: int) -> tuple[nn.Sequential, nn.Linear]:
    """Return the backbone and the head of the module that the owner's factory makes.

    The backbone is the module with identity for its head: its children are the blocks where it is an
    nn.Sequential, else it is a single block. Raises ConfigError where it is no classifier of such inputs.
    """
    module = call_reference(own.factory, "a model", input_shape=input_shape, classes=classes)
    if not isinstance(module, nn.Module):
        raise ConfigError(f"{own.factory}() returned {type(module).__name__}", fix="return a torch.nn.Module")
    head = _head(module, own)
    ramp = torch.linspace(0, 1, prod(input_shape)).view(input_shape)
    inputs = torch.stack([torch.zeros(input_shape), ramp])
    expected = _answers(module, inputs, own)
    if expected.shape != (2, classes):
        raise _misfit(own, f"answers 2 inputs by {tuple(expected.shape)}", f"return logits [2, {classes}]")
    if not expected.isfinite().all():
        raise _misfit(own, "answers by NaN or infinite numbers", "check how it starts")
    backbone = _without_head(module, own.head)
    features = _answers(backbone, inputs, own)
    if features.shape != (2, head.in_features) or not _plainly(head, features).allclose(expected, atol=1e-4):
        raise _misfit(own, f"does more in or after {own.head}", "name the layer that makes the logits")
    return backbone, head


def own_cut(backbone: nn.Sequential) -> int:
    """Return the usual cut of an own backbone: all but its last block.

    All of it where it is but one, or where the last shares weights with those before: what learns behind a
    cut must not change the stem.
    """
    cut = max(1, len(backbone) - 1)
    before = set(backbone[:cut].parameters())
    return cut if before.isdisjoint(backbone[cut:].parameters()) else len(backbone)


def _plainly(head: nn.Linear, features: Tensor) -> Tensor:
    """Return the logits of a plain nn.Linear, which takes the head's place when it grows."""
    return nn.functional.linear(features, head.weight, head.bias)


def _head(module: nn.Module, own: OwnModule) -> nn.Linear:
    try:
        head = module.get_submodule(own.head)
    except AttributeError as error:
        children = ", ".join(name for name, child in module.named_modules() if isinstance(child, nn.Linear))
        raise _misfit(
            own, f"has no {own.head}", f"set [model] head to one of {children or 'its layers'}"
        ) from error
    if not isinstance(head, nn.Linear):
        raise _misfit(own, f"has a {type(head).__name__} as {own.head}", "name its last nn.Linear")
    if head.bias is None:
        head.bias = nn.Parameter(head.weight.new_zeros(head.out_features))
    return head


def _without_head(module: nn.Module, path: str) -> nn.Sequential:
    if type(module) is nn.Sequential and path == list(module._modules)[-1]:
        # Not its children(), which name a layer once that is used twice.
        return nn.Sequential(*list(module)[:-1])
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent), name, nn.Identity())
    return module if type(module) is nn.Sequential else nn.Sequential(module)


def _answers(module: nn.Module, inputs: Tensor, own: OwnModule) -> Tensor:
    try:
        with torch.no_grad():
            answers = copy.deepcopy(module).eval()(inputs)
    except Exception as error:
        raise _misfit(own, f"fails on inputs of {tuple(inputs.shape)}: {error}"[:300], "check it") from error
    if not isinstance(answers, Tensor):
        raise _misfit(own, f"answers by {type(answers).__name__}", "return a tensor")
    return answers


def _misfit(own: OwnModule, what: str, fix: str) -> ConfigError:
    return ConfigError(f"the module of {own.factory}() {what}", fix=fix)
