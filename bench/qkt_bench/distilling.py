"""Naive multi-teacher distillation: all peers' models travel, and their plain average teaches unmasked."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax

from qkt_bench.predictors import mean_probabilities
from qkt_bench.training import samples_of, train_epochs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qkt_bench.federation import BenchNode
    from qkt_bench.queries import BenchQuery
    from qkt_bench.training import Recipe
    from qkt_p2p.models import Classifier


@dataclass(frozen=True, slots=True)
class Distilling:
    """`weight` of the teachers' average against the own labels, both in [0, 1], at `temperature`."""

    local: Recipe
    weight: float
    temperature: float


def distil_average(
    asker: BenchNode, query: BenchQuery, teachers: Sequence[Classifier], settings: Distilling
) -> Classifier:
    """Return the asker's model, grown for the query and trained on its own data.

    Targets are its labels and, unmasked, the mean of the teachers' softmaxes over the whole label space.
    """
    student = copy.deepcopy(asker.classifier.grown(query.classes, seed=query.seed))
    own = samples_of(asker.train, student)
    targets = mean_probabilities(teachers, own.inputs, student.classes, settings.temperature)

    def distillation(batch: Tensor, logits: Tensor) -> Tensor:
        predicted = log_softmax(logits / settings.temperature, dim=1)
        divergence = kl_div(predicted, targets[batch], reduction="batchmean")
        return settings.weight * settings.temperature**2 * divergence

    generator = torch.Generator().manual_seed(query.seed)
    train_epochs(
        student,
        own,
        settings.local,
        generator=generator,
        penalty=distillation,
        label_weight=1 - settings.weight,
    )
    return student
