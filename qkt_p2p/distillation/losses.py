"""The losses of both phases. All are pure; logits are [n, k] over the rows of the student's head."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax, one_hot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from qkt_p2p.distillation.settings import LearningSettings


def distillation_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return KL(targets || student's softmax), mean over n; targets [n, k] are distributions."""
    return kl_div(log_softmax(logits, dim=1), targets, reduction="batchmean")


def lowered(logits: Tensor, rows: Sequence[int], nats: float) -> Tensor:
    """Return logits [n, k] with those of `rows` lowered: logit adjustment (Menon et al., ICLR 2021).

    A student that is trained on such logits gives the rows as much more at the end.
    """
    shift = torch.zeros_like(logits)
    shift[:, list(rows)] = -nats
    return logits + shift


def masked_local_loss(logits: Tensor, labels: Tensor, absent: Sequence[int], calibration: float) -> Tensor:
    """Return the mean cross-entropy of labels [n], the odds of the rows `absent` scaled by `calibration`.

    At 0 the softmax runs over the other rows alone, so that real inputs of the student's own classes do not
    push classes down that it only knows from synthetic ones; at 1 it is the plain loss.
    """
    if calibration == 1 or not absent:
        return cross_entropy(logits, labels)
    shift = logits.new_tensor(calibration).log()
    scaled = torch.zeros_like(logits)
    scaled[:, list(absent)] = shift
    own = one_hot(labels, logits.shape[1]).bool()
    return cross_entropy(logits + scaled.masked_fill(own, 0), labels)


def query_loss(
    taught: Tensor,
    targets: Tensor,
    own: Tensor,
    labels: Tensor,
    *,
    absent: Sequence[int],
    settings: LearningSettings,
) -> Tensor:
    """Return what both phases minimize: the distillation loss, with `absent` rows lifted, and the local one.

    `taught` and `own` are logits of synthetic samples with their `targets` and of real ones with `labels`.
    """
    distilled = distillation_loss(lowered(taught, absent, settings.lift), targets)
    return distilled + masked_local_loss(own, labels, absent, settings.calibration)
