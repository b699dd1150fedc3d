"""Phase 1, query-focused distillation: the whole student learns from the responses and from its own data."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch

from qkt_p2p.distillation.losses import distillation_loss, masked_local_loss
from qkt_p2p.distillation.pool import absent_rows, own_pool, response_pool
from qkt_p2p.models.device import mixed_precision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qkt_p2p.datasets import LabelledData
    from qkt_p2p.distillation.responses import Response
    from qkt_p2p.distillation.settings import LearningSettings
    from qkt_p2p.models import Classifier
    from qkt_p2p.models.training import ReportProgress

_STEPS_PER_REPORT = 10


def distill(
    student: Classifier,
    own: LabelledData,
    responses: Sequence[Response],
    settings: LearningSettings,
    *,
    seed: int,
    progress: ReportProgress,
) -> Classifier:
    """Return a copy of the grown `student` that was trained on `responses` and `own` data.

    Every step draws one class-balanced batch of each. Raises what `progress` raises, and ConfigError where
    the responses hold none of the student's classes.
    """
    student = copy.deepcopy(student).train()
    taught, local = response_pool(student, responses), own_pool(student, own)
    absent = absent_rows(student, local)
    optimizer = torch.optim.AdamW(
        student.parameters(), lr=settings.phase1_learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.phase1_steps)
    generator = torch.Generator().manual_seed(seed)
    for step in range(settings.phase1_steps):
        batch, own_batch = (pool.draw(settings.batch_size, generator) for pool in (taught, local))
        with mixed_precision(student.device):
            logits = student(torch.cat([taught.inputs[batch], local.inputs[own_batch]]))
        taught_logits, own_logits = logits.float().split(settings.batch_size)
        loss = distillation_loss(taught_logits, taught.targets[batch])
        loss = loss + masked_local_loss(own_logits, local.labels[own_batch], absent, settings.calibration)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if step % _STEPS_PER_REPORT == 0:
            progress(step, settings.phase1_steps, f"distilling, loss {loss.item():.3f}")
    progress(settings.phase1_steps, settings.phase1_steps, "distilled")
    return student.eval()
