"""Both phases on real digits: a class is learned from synthetic batches, and nothing is forgotten."""

from __future__ import annotations

from dataclasses import replace
from statistics import mean
from typing import TYPE_CHECKING

import pytest
import torch

from qkt_p2p.distillation import LearningSettings, distill, refine
from qkt_p2p.errors import CancelledError
from qkt_p2p.models import Classifier, class_accuracies
from qkt_p2p.types import ClassName

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Lesson

KNOWN = tuple(ClassName(name) for name in "269")
ASKED = ClassName("4")
SHORT = replace(LearningSettings(), phase1_steps=12, phase2_steps=12)


def ignore(done: float, total: float, message: str) -> None:
    pass


def test_a_query_class_is_learned_and_nothing_forgotten(lesson: Lesson) -> None:
    """On real test digits the asked class rises from 0, and the known classes stay."""
    settings = replace(LearningSettings(), phase1_steps=150, phase2_steps=80)
    student = distill(lesson.grown, lesson.own, lesson.responses, settings, seed=0, progress=ignore)
    after = refine(student, lesson.before, lesson.own, lesson.responses, settings, seed=0, progress=ignore)
    before = class_accuracies(lesson.before, lesson.test, among=(*KNOWN, ASKED))
    accuracies = class_accuracies(after, lesson.test, among=after.trained)
    assert before[ASKED] == 0
    assert accuracies[ASKED] >= 0.9
    assert mean(accuracies[name] for name in KNOWN) >= mean(before[name] for name in KNOWN) - 0.04


def phase1(lesson: Lesson, seed: int, progress: Callable[[float, float, str], None]) -> Classifier:
    return distill(lesson.grown, lesson.own, lesson.responses, SHORT, seed=seed, progress=progress)


def phase2(lesson: Lesson, seed: int, progress: Callable[[float, float, str], None]) -> Classifier:
    return refine(
        lesson.grown, lesson.before, lesson.own, lesson.responses, SHORT, seed=seed, progress=progress
    )


@pytest.mark.parametrize("phase", [phase1, phase2])
def test_a_phase_is_reproducible_and_leaves_its_input_alone(
    lesson: Lesson, phase: Callable[..., Classifier]
) -> None:
    """The same seed gives the same model, another seed another, and the grown student stays as it was."""
    before = {name: tensor.clone() for name, tensor in lesson.grown.state_dict().items()}
    one, two, other = (phase(lesson, seed, ignore) for seed in (1, 1, 2))
    assert torch.equal(one.head.weight, two.head.weight)
    assert not torch.equal(one.head.weight, other.head.weight)
    assert all(torch.equal(before[name], tensor) for name, tensor in lesson.grown.state_dict().items())
    assert not one.training


def test_phase_2_changes_the_head_alone(lesson: Lesson) -> None:
    """The backbone, its running statistics included, stays to the bit."""
    after = phase2(lesson, 0, ignore).backbone.state_dict()
    assert all(
        torch.equal(after[name], tensor) for name, tensor in lesson.grown.backbone.state_dict().items()
    )


@pytest.mark.parametrize("phase", [phase1, phase2])
def test_a_phase_reports_and_can_be_cancelled(lesson: Lesson, phase: Callable[..., Classifier]) -> None:
    """Progress rises to its total; what it raises ends the phase."""
    seen: list[float] = []

    def count(done: float, total: float, message: str) -> None:
        seen.append(done / total)

    def cancel(done: float, total: float, message: str) -> None:
        raise CancelledError("interrupted")

    phase(lesson, 0, count)
    assert seen == sorted(seen)
    assert seen[-1] == 1
    assert len(seen) >= 3
    with pytest.raises(CancelledError):
        phase(lesson, 0, cancel)
