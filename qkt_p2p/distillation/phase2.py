"""Phase 2, classification head refinement: over a frozen backbone the head is balanced, and remembers."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from qkt_p2p.distillation.losses import distillation_loss, masked_local_loss, retention_loss
from qkt_p2p.distillation.pool import absent_rows, check_guarded, own_pool, response_pool
from qkt_p2p.distillation.training import descend
from qkt_p2p.models import logits_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import Tensor

    from qkt_p2p.datasets import LabelledData
    from qkt_p2p.distillation.responses import Response
    from qkt_p2p.distillation.settings import LearningSettings
    from qkt_p2p.models import Classifier
    from qkt_p2p.models.training import ReportProgress


def refine(
    student: Classifier,
    before: Classifier,
    own: LabelledData,
    responses: Sequence[Response],
    settings: LearningSettings,
    *,
    seed: int,
    progress: ReportProgress,
) -> Classifier:
    """Return a copy of `student` with its head trained on a class-balanced mixture of both kinds of data.

    `before`, the model before the query, teaches the classes L_s that it knew on the student's own data.
    Raises what `progress` raises, ConfigError where the responses hold none of the student's classes, and
    UpdateRefusedError where one of its classes has no sample anywhere.
    """
    student = copy.deepcopy(student).eval()
    end = len(student.backbone)
    inputs = own_pool(student, own)
    local = inputs.advanced(student, 0, end)
    taught = response_pool(student, responses).advanced(student, settings.cut, end)
    check_guarded(student, taught, local)
    absent = absent_rows(student, local)
    known = student.rows(before.trained)
    remembered = logits_of(before, inputs.inputs)[:, before.rows(before.trained)]

    def loss(generator: torch.Generator) -> Tensor:
        batch, own_batch = (pool.draw(settings.batch_size, generator) for pool in (taught, local))
        own_logits = student.head(local.inputs[own_batch])
        distilled = distillation_loss(student.head(taught.inputs[batch]), taught.targets[batch])
        stayed = masked_local_loss(own_logits, local.labels[own_batch], absent, settings.calibration)
        if not settings.retention:
            return distilled + stayed
        kept = retention_loss(own_logits, remembered[own_batch], known, settings.temperature)
        return distilled + stayed + settings.retention * kept

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
