"""Phase 1, query-focused distillation: the student learns from the responses and from its own data."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch

from qkt_p2p.distillation.losses import query_loss
from qkt_p2p.distillation.pool import absent_rows, check_guarded, own_pool, response_pool
from qkt_p2p.distillation.training import descend
from qkt_p2p.models.device import mixed_precision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from qkt_p2p.datasets import LabelledData
    from qkt_p2p.distillation.responses import Response
    from qkt_p2p.distillation.settings import LearningSettings
    from qkt_p2p.models import Classifier
    from qkt_p2p.types import ReportDone


def distill(
    student: Classifier,
    own: LabelledData,
    responses: Sequence[Response],
    settings: LearningSettings,
    *,
    seed: int,
    progress: ReportDone,
) -> Classifier:
    """Return a copy of the grown `student` that was trained on `responses` and `own` data.

    Blocks before the first that `settings` train stay as they are. Every step draws one class-balanced batch
    of each kind. Raises what `progress` raises, ConfigError where the responses hold none of the student's
    classes, and UpdateRefusedError, before any step, where one of these has no sample anywhere.
    """
    student = copy.deepcopy(student).eval()
    first = settings.first_trained_block(student)
    taught, local = response_pool(student, responses), own_pool(student, own)
    check_guarded(student, taught, local)
    taught, local = taught.advanced(student, settings.cut, first), local.advanced(student, 0, first)
    absent = absent_rows(student, local)
    rest = student.after(first).train()

    def loss(generator: torch.Generator) -> Tensor:
        batch, own_batch = (pool.draw(settings.batch_size, generator) for pool in (taught, local))
        inputs = torch.cat([taught.inputs[batch], local.inputs[own_batch]])
        with mixed_precision(student.device):
            logits = rest(inputs)
        taught_logits, own_logits = logits.float().split(settings.batch_size)
        targets, labels = taught.targets[batch], local.labels[own_batch]
        return query_loss(taught_logits, targets, own_logits, labels, absent=absent, settings=settings)

    descend(
        loss,
        rest.parameters(),
        steps=settings.phase1_steps,
        learning_rate=settings.phase1_learning_rate,
        settings=settings,
        seed=seed,
        progress=lambda done, total, value: progress(done, total, f"distilling, loss {value:.3f}"),
    )
    return student.eval()
