"""Phase 2, classification head refinement: over a frozen backbone the head is balanced, nothing forgotten."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from qkt_p2p.distillation.gate import ClassChange, own_loss
from qkt_p2p.distillation.losses import lowered, query_loss
from qkt_p2p.distillation.pool import absent_rows, check_guarded, own_pool, response_pool
from qkt_p2p.distillation.training import descend
from qkt_p2p.models import class_accuracies, logits_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from qkt_p2p.datasets import LabelledData
    from qkt_p2p.distillation.responses import Response
    from qkt_p2p.distillation.settings import LearningSettings
    from qkt_p2p.models import Classifier
    from qkt_p2p.types import ClassName, ReportDone

_NATS: Final = tuple(step / 10 for step in range(61))


def refine(
    student: Classifier,
    own: LabelledData,
    responses: Sequence[Response],
    settings: LearningSettings,
    *,
    seed: int,
    progress: ReportDone,
) -> Classifier:
    """Return a copy of `student` with its head trained on a class-balanced mixture of both kinds of data.

    Raises what `progress` raises, ConfigError where the responses hold none of the student's classes, and
    UpdateRefusedError where one of its classes has no sample anywhere.
    """
    student = copy.deepcopy(student).eval()
    end = len(student.backbone)
    local = own_pool(student, own).advanced(student, 0, end)
    taught = response_pool(student, responses).advanced(student, settings.cut, end)
    check_guarded(student, taught, local)
    absent = absent_rows(student, local)

    def loss(generator: torch.Generator) -> Tensor:
        batch, own_batch = (pool.draw(settings.batch_size, generator) for pool in (taught, local))
        own_logits = student.head(local.inputs[own_batch])
        taught_logits = student.head(taught.inputs[batch])
        targets, labels = taught.targets[batch], local.labels[own_batch]
        return query_loss(taught_logits, targets, own_logits, labels, absent=absent, settings=settings)

    descend(
        loss,
        student.head.parameters(),
        steps=settings.phase2_steps,
        learning_rate=settings.phase2_learning_rate,
        settings=settings,
        seed=seed,
        progress=lambda done, total, value: progress(done, total, f"refining the head, loss {value:.3f}"),
    )
    return student


def hold_back(
    student: Classifier,
    before: Classifier,
    own_holdout: LabelledData,
    query: Sequence[ClassName],
    settings: LearningSettings,
) -> Classifier:
    """Return `student` with the classes of the query held back just as far as own classes need it.

    Their rows' biases are lowered, by at most 6 nats, until the gate would not object to what own classes
    lose on `own_holdout`, real data that nothing was trained on. Where that does not suffice, or nothing is
    held out, the student stays as it is.
    """
    # A class that was learned from peers need not be in the label space of the own data.
    own = [name for name in own_holdout.present if name in before.trained and name not in query]
    data = own_holdout.restrict(own, seed=0)
    if not len(data):
        return student
    rows = student.rows(student.trained)
    asked = [rows.index(student.classes.index(name)) for name in query]
    names, truth = np.array(student.classes)[rows], np.array(data.classes)[data.labels]
    logits = logits_of(student, torch.from_numpy(data.inputs))[:, rows]
    was = class_accuracies(before, data, among=before.trained)

    def certain_loss(nats: float) -> float:
        right = names[lowered(logits, asked, nats).argmax(1).numpy()] == truth
        lost, margin = own_loss(
            [
                ClassChange(was[name], float(right[truth == name].mean()), "holdout", int(sum(truth == name)))
                for name in data.present
            ]
        )
        return lost - margin

    nats = next((nats for nats in _NATS if certain_loss(nats) <= settings.most_own_loss), 0.0)
    held = copy.deepcopy(student)
    with torch.no_grad():
        held.head.bias[[rows[at] for at in asked]] -= nats
    return held
