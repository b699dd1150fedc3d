"""What a method leaves behind: something that says how likely each of some classes is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from qkt_p2p.models import logits_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qkt_p2p.datasets import LabelledData
    from qkt_p2p.models import Classifier
    from qkt_p2p.types import ClassName


class Predictor(Protocol):
    """Scores inputs; the class with the largest score is the prediction."""

    def scores(self, inputs: Tensor, among: Sequence[ClassName]) -> Tensor:
        """Return scores [n, len(among)] of inputs [n, C, H, W]; -inf for a class that it has no row for."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Single:
    """One classifier: its logits, of which the softmax over `among` keeps the order.

    Rows of classes that it has learned from a few samples, or as absent, count as they are.
    """

    classifier: Classifier

    def scores(self, inputs: Tensor, among: Sequence[ClassName]) -> Tensor:
        """Return the logits of the rows that the classifier has."""
        logits = logits_of(self.classifier, inputs)
        columns = [
            logits[:, self.classifier.classes.index(name)]
            if name in self.classifier.classes
            else torch.full((len(inputs),), -torch.inf)
            for name in among
        ]
        return torch.stack(columns, dim=1)


@dataclass(frozen=True, slots=True, eq=False)
class Ensemble:
    """The mean of several classifiers' softmax over the whole label space."""

    classifiers: tuple[Classifier, ...]

    def scores(self, inputs: Tensor, among: Sequence[ClassName]) -> Tensor:
        """Return mean probabilities; a class without a row in a classifier has none there."""
        return mean_probabilities(self.classifiers, inputs, among)


def mean_probabilities(
    classifiers: Sequence[Classifier], inputs: Tensor, classes: Sequence[ClassName], temperature: float = 1.0
) -> Tensor:
    """Return the plain mean [n, len(classes)] of softmaxes, each over all rows of its classifier."""
    total = torch.zeros(len(inputs), len(classes))
    for classifier in classifiers:
        probabilities = torch.softmax(logits_of(classifier, inputs) / temperature, dim=1)
        for column, name in enumerate(classes):
            if name in classifier.classes:
                total[:, column] += probabilities[:, classifier.classes.index(name)]
    return total / len(classifiers)


def accuracies(
    predictor: Predictor, data: LabelledData, among: Sequence[ClassName]
) -> dict[ClassName, float]:
    """Return the accuracy on each class of `among` that `data` holds, predicting jointly among them."""
    chosen = data.restrict(among, seed=0)
    if not len(chosen):
        return {}
    scores = predictor.scores(torch.from_numpy(chosen.inputs), among)
    return score_accuracies(scores, chosen, among)


def score_accuracies(
    scores: Tensor, data: LabelledData, among: Sequence[ClassName]
) -> dict[ClassName, float]:
    """Return the accuracy on each class of `among`, from scores [n, len(among)] of all of `data`."""
    predicted = scores.argmax(1).numpy()
    return {
        name: float((predicted[mine] == column).mean())
        for column, name in enumerate(among)
        if (mine := data.labels == data.classes.index(name)).any()
    }
