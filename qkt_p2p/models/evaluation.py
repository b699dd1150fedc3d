"""What a classifier answers, in evaluation mode and in bounded memory."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Collection

    from qkt_p2p.datasets import LabelledData
    from qkt_p2p.models.classifier import Classifier
    from qkt_p2p.types import ClassName, ReportDone

_BATCH: Final = 512
"""Inputs at most that a model is asked about between two reports."""

_BATCH_NUMBERS: Final = 2**18
"""Numbers at most that are asked about between two reports."""

_BATCH_WORK: Final = 10**11
"""Parameters times positions times inputs between two reports: eight images of 32x32 for a ResNet-18.

Together these are about a quarter of a second's work on a slow core. How inputs are cut into batches must not
hang on how fast this machine is: a library may sum those of another batch in another order.
"""


def logits_of(
    classifier: Classifier, inputs: Tensor, *, cut: int = 0, report: ReportDone = lambda *_: None
) -> Tensor:
    """Return logits [n, len(classes)] of inputs [n, C, H, W], without gradients; the mode is kept.

    Behind a `cut` the inputs are features instead. The logits are where the inputs are, wherever the
    classifier is. Raises what `report` raises, which is told before each batch: there may be work for
    minutes, of which a CPU does about a quarter of a second's between two of them.
    """
    return _answers(classifier, classifier.after(cut), inputs, report)


def features_of(
    classifier: Classifier,
    inputs: Tensor,
    *,
    cut: int | None = None,
    report: ReportDone = lambda *_: None,
) -> Tensor:
    """Return what lies behind the blocks before `cut` for inputs [n, C, H, W], as `logits_of` returns logits.

    Without a cut that is what the head gets [n, f].
    """
    blocks = classifier.backbone if cut is None else classifier.stem(cut)
    return _answers(classifier, blocks, inputs, report)


def _answers(classifier: Classifier, part: nn.Module, inputs: Tensor, report: ReportDone) -> Tensor:
    was_training = classifier.training
    classifier.eval()
    found: list[Tensor] = []
    size = _batch_size(part, inputs) if classifier.device.type == "cpu" else _BATCH
    try:
        with torch.inference_mode():
            for batch in torch.split(inputs, size):
                report(len(found) * size, len(inputs), "asking the model")
                found.append(part(classifier.placed(batch)).to(inputs.device))
    finally:
        classifier.train(was_training)
    return torch.cat(found)


def _batch_size(part: nn.Module, inputs: Tensor) -> int:
    """Return how many of `inputs` a part of a model is asked about between two reports."""
    numbers, positions = prod(inputs.shape[1:]), prod(inputs.shape[2:])
    work = sum(parameter.numel() for parameter in part.parameters()) * positions
    return max(1, min(_BATCH, _BATCH_NUMBERS // max(1, numbers), _BATCH_WORK // max(1, work)))


def class_accuracies(
    classifier: Classifier, data: LabelledData, *, among: Collection[ClassName]
) -> dict[ClassName, float]:
    """Return the accuracy on each class of `among` that `data` holds.

    Predictions are joint: the largest logit over those of `among` that the classifier has learned. A class
    that it has not learned therefore scores 0.
    """
    rows = classifier.rows([name for name in among if name in classifier.trained])
    wanted = [label for label, name in enumerate(data.classes) if name in among]
    chosen = [int(at) for at in range(len(data)) if data.labels[at] in wanted]
    if not chosen:
        return {}
    logits = logits_of(classifier, torch.from_numpy(data.inputs[chosen]))
    if not rows:
        return {data.classes[label]: 0.0 for label in sorted({int(data.labels[at]) for at in chosen})}
    predicted = [classifier.classes[rows[at]] for at in logits[:, rows].argmax(1).tolist()]
    truth = [data.classes[data.labels[at]] for at in chosen]
    return {
        name: sum(p == t for p, t in zip(predicted, truth, strict=True) if t == name) / truth.count(name)
        for name in data.classes
        if name in truth
    }
