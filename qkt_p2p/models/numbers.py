"""Which numbers a model may hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from qkt_p2p.models.classifier import Classifier

_STATISTICS: Final = ("running_mean", "running_var")


def unusable_numbers(classifier: Classifier) -> str:
    """Return what a classifier holds that none can work with, as "NaN in head.bias"; empty where all is well.

    Parameters and the statistics of normalization layers have to be finite, and variances not negative.
    Other buffers are constants of the module's maker, who may mask with infinity; NaN is none.
    """
    parameters = {name for name, _ in classifier.named_parameters(remove_duplicate=False)}
    for name, tensor in classifier.state_dict().items():
        last = name.rpartition(".")[2]
        if found := _found(tensor, infinity=name not in parameters and last not in _STATISTICS):
            return f"{found} in {name}"
        if last == "running_var" and bool((tensor < 0).any()):
            return f"negative variances in {name}"
    return ""


def _found(tensor: Tensor, *, infinity: bool) -> str:
    """Return which numbers that a tensor holds it must not; `infinity` says whether that may be in it."""
    if infinity:
        return "NaN" if bool(tensor.isnan().any()) else ""
    return "" if bool(torch.isfinite(tensor).all()) else "NaN or infinite numbers"
