"""What a classifier answers, in evaluation mode and in bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Collection

    from qkt_p2p.datasets import LabelledData
    from qkt_p2p.models.classifier import Classifier
    from qkt_p2p.models.training import ReportProgress
    from qkt_p2p.types import ClassName

_BATCH = 512
"""Inputs that a model is asked about between two reports: a second's work for a large one."""


def logits_of(
    classifier: Classifier, inputs: Tensor, *, cut: int = 0, report: ReportProgress = lambda *_: None
) -> Tensor:
    """Return logits [n, len(classes)] of inputs [n, C, H, W], without gradients; the mode is kept.

    Behind a `cut` the inputs are features instead. The logits are where the inputs are, wherever the
    classifier is. Raises what `report` raises, which is told before each batch: there may be work for
    minutes.
    """
    return _answers(classifier, classifier.after(cut), inputs, report)


def features_of(classifier: Classifier, inputs: Tensor, *, cut: int | None = None) -> Tensor:
    """Return what lies behind the blocks before `cut` for inputs [n, C, H, W], as `logits_of` returns logits.

    Without a cut that is what the head gets [n, f].
    """
    blocks = classifier.backbone if cut is None else classifier.stem(cut)
    return _answers(classifier, blocks, inputs, lambda *_: None)


def _answers(classifier: Classifier, part: nn.Module, inputs: Tensor, report: ReportProgress) -> Tensor:
    was_training = classifier.training
    classifier.eval()
    found: list[Tensor] = []
    try:
        with torch.inference_mode():
            for batch in torch.split(inputs, _BATCH):
                report(len(found) * _BATCH, len(inputs), "asking the model")
                found.append(part(classifier.placed(batch)).to(inputs.device))
    finally:
        classifier.train(was_training)
    return torch.cat(found)


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
