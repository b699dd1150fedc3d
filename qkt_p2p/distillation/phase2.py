"""Phase 2, classification head refinement: over a frozen backbone the head is balanced, and remembers."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from qkt_p2p.distillation.losses import distillation_loss, masked_local_loss, retention_loss
from qkt_p2p.distillation.pool import absent_rows, check_guarded, own_pool, response_pool
from qkt_p2p.models import logits_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qkt_p2p.datasets import LabelledData
    from qkt_p2p.distillation.responses import Response
    from qkt_p2p.distillation.settings import LearningSettings
    from qkt_p2p.models import Classifier
    from qkt_p2p.models.training import ReportProgress

_STEPS_PER_REPORT = 10
_BATCH = 512


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
    taught, local = response_pool(student, responses), own_pool(student, own)
    check_guarded(student, taught, local)
    absent = absent_rows(student, local)
    known = student.rows(before.trained)
    remembered = logits_of(before, local.inputs)[:, before.rows(before.trained)]
    taught_features, own_features = (_features(student, pool.inputs) for pool in (taught, local))
    optimizer = torch.optim.AdamW(
        student.head.parameters(), lr=settings.phase2_learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.phase2_steps)
    generator = torch.Generator().manual_seed(seed)
    for step in range(settings.phase2_steps):
        batch, own_batch = (pool.draw(settings.batch_size, generator) for pool in (taught, local))
        own_logits = student.head(own_features[own_batch])
        loss = distillation_loss(student.head(taught_features[batch]), taught.targets[batch])
        loss = loss + masked_local_loss(own_logits, local.labels[own_batch], absent, settings.calibration)
        loss = loss + settings.retention * retention_loss(
            own_logits, remembered[own_batch], known, settings.temperature
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if step % _STEPS_PER_REPORT == 0:
            progress(step, settings.phase2_steps, f"refining the head, loss {loss.item():.3f}")
    progress(settings.phase2_steps, settings.phase2_steps, "refined")
    return student


def _features(student: Classifier, inputs: Tensor) -> Tensor:
    """Return g(x) [n, width], in bounded memory."""
    with torch.no_grad():
        return torch.cat([student.backbone(part) for part in torch.split(inputs, _BATCH)])
