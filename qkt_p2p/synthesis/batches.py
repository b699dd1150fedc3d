"""Synthetic inputs with masked soft targets: what a teacher answers, and a student makes of its own data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from qkt_p2p.models import logits_of
from qkt_p2p.seeds import derived_seed
from qkt_p2p.wire.tensors import SyntheticBatch, as_levels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qkt_p2p.models import Classifier
    from qkt_p2p.synthesis.bank import Bank
    from qkt_p2p.types import ClassName


def make_batch(
    bank: Bank,
    classifier: Classifier,
    classes: Sequence[ClassName],
    *,
    samples_per_class: int,
    seed: int,
    temperature: float = 2.0,
    label_share: float = 0.5,
) -> SyntheticBatch:
    """Return `samples_per_class` synthetic inputs of each of `classes`, shuffled, as they will travel.

    The targets are over `classes`, the mask: see `masked_targets`.
    """
    drawn = [bank.sample(name, samples_per_class, seed=seed) for name in classes]
    order = np.random.default_rng(derived_seed(seed, "order")).permutation(samples_per_class * len(classes))
    inputs = as_levels(np.concatenate(drawn)[order]).astype(np.float32) / np.float32(255)
    labels = np.repeat(np.arange(len(classes)), samples_per_class)[order]
    rows = [classifier.classes.index(name) for name in classes]
    logits = logits_of(classifier, torch.from_numpy(inputs))[:, rows]
    targets = masked_targets(
        logits, torch.from_numpy(labels), temperature=temperature, label_share=label_share
    )
    return SyntheticBatch(inputs, targets.numpy(), tuple(classes))


def masked_targets(logits: Tensor, labels: Tensor, *, temperature: float, label_share: float) -> Tensor:
    """Return targets [n, k]: labels [n] as one-hot, mixed with the softmax of the mask's logits [n, k].

    Restricting the softmax to the mask is the paper's masking; mixing in the class that the input was
    drawn from is ours.
    """
    answers = (logits / temperature).softmax(1)
    one_hot = nn.functional.one_hot(labels, logits.shape[1])
    return label_share * one_hot + (1 - label_share) * answers
