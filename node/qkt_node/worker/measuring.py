"""What a query changed, class by class, for its owner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qkt_p2p.models import class_accuracies
from qkt_p2p.types import ClassAccuracy

if TYPE_CHECKING:
    from collections.abc import Collection

    from qkt_node.worker.local_data import LocalData
    from qkt_p2p.datasets import LabelledData
    from qkt_p2p.distillation import Verdict
    from qkt_p2p.models import Classifier
    from qkt_p2p.types import ClassName


def measured_accuracies(
    before: Classifier,
    after: Classifier,
    *,
    verdict: Verdict,
    evaluation: LabelledData | None,
    asked: Collection[ClassName],
) -> tuple[ClassAccuracy, ...]:
    """Return accuracies on the evaluation data where it is configured, else the gate's own."""
    found = {
        name: ClassAccuracy(name, change.before, change.after, change.measured_on, name in asked)
        for name, change in verdict.changes.items()
    }
    if evaluation is not None:
        was, now = (class_accuracies(model, evaluation, among=after.trained) for model in (before, after))
        for name in now:
            found[name] = ClassAccuracy(name, was[name], now[name], "evaluation", name in asked)
    return tuple(found[name] for name in after.trained if name in found)


def compared_accuracies(before: Classifier, after: Classifier, data: LocalData) -> tuple[ClassAccuracy, ...]:
    """Return the accuracies of two models on each class that either has learned and that the data hold.

    They are those on the evaluation data where it is configured, else on what was held out of training.
    """
    measured = data.holdout if data.evaluation is None else data.evaluation
    among = tuple(dict.fromkeys((*before.trained, *after.trained)))
    was, now = (class_accuracies(model, measured, among=among) for model in (before, after))
    return tuple(
        ClassAccuracy(
            name,
            was[name],
            now[name],
            measured_on="holdout" if data.evaluation is None else "evaluation",
            asked=False,
        )
        for name in among
        if name in now
    )
