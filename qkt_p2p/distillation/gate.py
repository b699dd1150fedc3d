"""The validation gate: an update that forgets, may have forgotten unseen, or has not learned, is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import torch

from qkt_p2p.errors import UpdateRefusedError
from qkt_p2p.models import class_accuracies, logits_of, unusable_numbers

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import numpy.typing as npt

    from qkt_p2p.datasets import LabelledData
    from qkt_p2p.distillation.responses import Response
    from qkt_p2p.distillation.settings import LearningSettings
    from qkt_p2p.models import Classifier
    from qkt_p2p.types import ClassName


_CONFIDENCE: Final = 1.64
"""Standard errors: an update is refused where the loss is over the limit with 95 % confidence."""

_HANDFUL: Final = 10
"""Own held-out samples below which a class that is asked for is estimated instead."""


@dataclass(frozen=True, slots=True)
class ClassChange:
    """Accuracy of a class before and after, measured on so many `samples`.

    `measured_on` is "holdout" (real) or "estimate" (synthetic).
    """

    before: float
    after: float
    measured_on: Literal["holdout", "estimate"]
    samples: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the gate accepts, why, and what it measured per class."""

    accepted: bool
    reason: str
    changes: dict[ClassName, ClassChange]


def validate(
    before: Classifier,
    after: Classifier,
    *,
    own_holdout: LabelledData,
    responses_holdout: Sequence[Response],
    query: Collection[ClassName],
    settings: LearningSettings,
    unseen: bool = False,
) -> Verdict:
    """Return the verdict on `after`.

    Own classes are measured on `own_holdout`, real data; classes that it lacks, of the query or learned
    earlier, are estimated on held-out synthetic batches, and so are classes of the query of which it has a
    handful: one sample must not decide. Predictions are joint over all that a model has learned. Where the
    batches are not lifelike the reason of an acceptance says that such an estimate flatters.

    The reason names own classes with no held-out sample of either kind. Where that is all of them the update
    is refused, unless the owner takes a loss `unseen`. Training samples would tell nothing: a student that
    knows a few of them by heart may have forgotten all others.
    """
    changes = _measured(before, after, own_holdout)
    taught = {name for response in responses_holdout for name in response.classes}
    for name in taught & {*query} & changes.keys():
        if changes[name].samples < _HANDFUL:
            del changes[name]
    unmeasured = _unmeasured_classes(before, own_holdout, responses_holdout, query)
    estimated = {*taught, *query} - changes.keys() - {*unmeasured}
    for name in [name for name in after.trained if name in estimated]:
        inputs = _held_out(responses_holdout, name)
        was, now = (_estimate(model, inputs, name, settings.cut) for model in (before, after))
        changes[name] = ClassChange(was, now, "estimate", len(inputs))
    reason = _objection(after, changes, query, settings)
    if not unseen and _are_all(unmeasured, before, query):
        reason = reason or _reason_unmeasured(unmeasured)
    learned = f"learned; {_reason_unmeasured(unmeasured)}" if unmeasured else "learned, and nothing forgotten"
    guessed = [name for name in query if changes[name].measured_on == "estimate"]
    if guessed and not settings.lifelike:
        names = ", ".join(guessed)
        learned += f"; what {names} reached is estimated on samples unlike real data, which flatters"
    return Verdict(not reason, reason or learned, changes)


def require_measurable(
    before: Classifier,
    own_holdout: LabelledData,
    responses_holdout: Sequence[Response],
    query: Collection[ClassName],
) -> None:
    """Raise UpdateRefusedError where `validate` could not tell of a single own class what it loses."""
    unmeasured = _unmeasured_classes(before, own_holdout, responses_holdout, query)
    if _are_all(unmeasured, before, query):
        raise UpdateRefusedError(
            _reason_unmeasured(unmeasured),
            fix="hold out a part of three samples or more of each class ([data] holdout), "
            "or add --force to take an unseen loss",
        )


def _unmeasured_classes(
    before: Classifier,
    own_holdout: LabelledData,
    responses_holdout: Sequence[Response],
    query: Collection[ClassName],
) -> list[ClassName]:
    """Return the classes that the student had before, and of which nothing is held out."""
    held = {*own_holdout.present, *query}
    held.update(name for r in responses_holdout for name in r.classes if len(_held_out([r], name)))
    return [name for name in before.trained if name not in held]


def _are_all(unmeasured: Sequence[ClassName], before: Classifier, query: Collection[ClassName]) -> bool:
    """Tell whether these are some, and all that the student had before beside those of the query."""
    return bool(unmeasured) and {*unmeasured} == {*before.trained} - {*query}


def _reason_unmeasured(names: Sequence[ClassName]) -> str:
    return f"no sample of {', '.join(names)} is held out, so nothing tells what is forgotten of it"


def _measured(before: Classifier, after: Classifier, holdout: LabelledData) -> dict[ClassName, ClassChange]:
    was, now = (class_accuracies(model, holdout, among=model.trained) for model in (before, after))
    counts = holdout.counts
    return {
        name: ClassChange(was.get(name, 0.0), accuracy, "holdout", counts[name])
        for name, accuracy in now.items()
    }


def _held_out(responses: Sequence[Response], name: ClassName) -> npt.NDArray[np.float32]:
    """Return the held-out synthetic inputs of a class, from all teachers."""
    held = [r.inputs[r.labels == r.classes.index(name)] for r in responses if name in r.classes]
    return np.concatenate(held) if held else np.empty(0, np.float32)


def _estimate(model: Classifier, inputs: npt.NDArray[np.float32], name: ClassName, cut: int) -> float:
    """Return the share of synthetic inputs of a class that `model` gives that class."""
    if name not in model.trained or not len(inputs):
        return 0.0
    rows = model.rows(model.trained)
    predicted = logits_of(model, torch.from_numpy(inputs), cut=cut)[:, rows].argmax(1)
    return float((predicted == rows.index(model.classes.index(name))).float().mean())


def _objection(
    after: Classifier,
    changes: dict[ClassName, ClassChange],
    query: Collection[ClassName],
    settings: LearningSettings,
) -> str:
    """Return why the update is refused; empty where it is not."""
    if unusable := unusable_numbers(after):
        return f"the new model holds {unusable}"
    least = settings.least_query_accuracy if settings.lifelike else settings.least_easy_accuracy
    for name in query:
        if changes[name].after < least:
            return f"{name} reached {changes[name].after:.0%}, wanted are {least:.0%}"
    own = [change for name, change in changes.items() if name not in query]
    lost, margin = own_loss(own)
    if lost - margin > settings.most_own_loss:
        allowed = f"allowed are {100 * settings.most_own_loss:g}"
        return f"own classes lost {100 * lost:.1f} ± {100 * margin:.1f} points, {allowed}"
    return ""


def own_loss(own: Sequence[ClassChange]) -> tuple[float, float]:
    """Return how much mean accuracy was lost, and by how much less it may be with 95 % confidence.

    A class that lost the share p of n samples has the variance p (1 - p) / n, as if no sample was won
    back: a handful of held-out samples must not refuse an update by chance.
    """
    if not own:
        return 0.0, 0.0
    losses = [change.before - change.after for change in own]
    variances = [
        abs(loss) * (1 - abs(loss)) / change.samples
        for loss, change in zip(losses, own, strict=True)
        if change.samples
    ]
    return sum(losses) / len(own), _CONFIDENCE * sum(variances) ** 0.5 / len(own)
