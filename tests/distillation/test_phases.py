"""Both phases on real digits: a class is learned from synthetic batches, and nothing is forgotten."""

from __future__ import annotations

import copy
from dataclasses import replace
from statistics import mean
from typing import TYPE_CHECKING

import pytest
import torch

from qkt_p2p.distillation import LearningSettings, distill, refine
from qkt_p2p.errors import CancelledError, UpdateRefusedError
from qkt_p2p.models import Classifier, class_accuracies
from qkt_p2p.types import ClassName

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Course

KNOWN = tuple(ClassName(name) for name in "269")
ASKED = ClassName("4")


def ignore(done: float, total: float, message: str) -> None:
    pass


def test_a_query_class_is_learned_and_nothing_forgotten(course: Course) -> None:
    """On real test digits the asked class rises from 0, and the known classes stay."""
    settings = replace(course.settings, phase1_steps=150, phase2_steps=80)
    student = distill(course.grown, course.own, course.responses, settings, seed=0, progress=ignore)
    after = refine(student, course.own, course.responses, settings, seed=0, progress=ignore)
    before = class_accuracies(course.before, course.test, among=(*KNOWN, ASKED))
    accuracies = class_accuracies(after, course.test, among=after.trained)
    assert before[ASKED] == 0
    assert accuracies[ASKED] >= 0.9
    assert mean(accuracies[name] for name in KNOWN) >= mean(before[name] for name in KNOWN) - 0.04


def short(course: Course) -> LearningSettings:
    return replace(course.settings, phase1_steps=12, phase2_steps=12)


def phase1(course: Course, seed: int, progress: Callable[[float, float, str], None]) -> Classifier:
    return distill(course.grown, course.own, course.responses, short(course), seed=seed, progress=progress)


def phase2(course: Course, seed: int, progress: Callable[[float, float, str], None]) -> Classifier:
    return refine(course.grown, course.own, course.responses, short(course), seed=seed, progress=progress)


@pytest.mark.parametrize("phase", [phase1, phase2])
def test_a_phase_is_reproducible_and_leaves_its_input_alone(
    course: Course, phase: Callable[..., Classifier]
) -> None:
    """The same seed gives the same model, another seed another, and the grown student stays as it was."""
    before = {name: tensor.clone() for name, tensor in course.grown.state_dict().items()}
    one, two, other = (phase(course, seed, ignore) for seed in (1, 1, 2))
    assert torch.equal(one.head.weight, two.head.weight)
    assert not torch.equal(one.head.weight, other.head.weight)
    assert all(torch.equal(before[name], tensor) for name, tensor in course.grown.state_dict().items())
    assert not one.training


def test_what_layers_draw_follows_from_the_seed(course: Course) -> None:
    """Dropout is alike in two runs, and the process's own random numbers stay as they were."""
    forgetful = copy.deepcopy(course.grown)
    last = len(forgetful.backbone) - 1
    forgetful.backbone[last] = torch.nn.Sequential(torch.nn.Dropout(), forgetful.backbone[last])
    state = torch.random.get_rng_state()
    one, two, other = (phase1(replace(course, grown=forgetful), seed, ignore) for seed in (1, 1, 2))
    assert torch.equal(one.head.weight, two.head.weight)
    assert not torch.equal(one.head.weight, other.head.weight)
    assert torch.equal(torch.random.get_rng_state(), state)


def unchanged(course: Course, after: Classifier) -> list[bool]:
    """Return of each block whether it is what it was, running statistics included."""
    return [
        all(
            torch.equal(tensor, now)
            for tensor, now in zip(old.state_dict().values(), new.state_dict().values(), strict=True)
        )
        for old, new in zip(course.grown.backbone, after.backbone, strict=True)
    ]


def test_phase_1_leaves_the_blocks_before_the_cut_alone(course: Course) -> None:
    """Features that teachers made stay the student's own."""
    same = unchanged(course, phase1(course, 0, ignore))
    learning = [bool(list(block.parameters())) for block in course.grown.backbone]
    cut = course.settings.cut
    assert all(same[:cut])
    assert [not each for each in same[cut:]] == learning[cut:]


def test_phase_1_of_a_light_query_trains_the_last_block_alone(course: Course) -> None:
    """All blocks but the last stay, and the head learns; there are fewer steps of fewer samples."""
    settings = short(course).lighter()
    assert (settings.phase1_steps, settings.phase2_steps) == (6, 4)
    assert settings.batch_size == course.settings.batch_size // 2
    after = distill(course.grown, course.own, course.responses, settings, seed=0, progress=ignore)
    assert all(unchanged(course, after)[:-1])
    assert not torch.equal(after.head.weight, course.grown.head.weight)


def test_phase_2_changes_the_head_alone(course: Course) -> None:
    """The backbone, its running statistics included, stays to the bit."""
    assert all(unchanged(course, phase2(course, 0, ignore)))


@pytest.mark.parametrize("phase", [phase1, phase2])
def test_a_phase_reports_and_can_be_cancelled(course: Course, phase: Callable[..., Classifier]) -> None:
    """Progress rises to its total; what it raises ends the phase."""
    seen: list[float] = []

    def count(done: float, total: float, message: str) -> None:
        seen.append(done / total)

    def cancel(done: float, total: float, message: str) -> None:
        raise CancelledError("interrupted")

    phase(course, 0, count)
    assert seen == sorted(seen)
    assert seen[-1] == 1
    assert len(seen) >= 3
    with pytest.raises(CancelledError):
        phase(course, 0, cancel)


@pytest.mark.parametrize("phase", [phase1, phase2])
def test_a_class_that_nobody_teaches_now_is_a_refusal_before_any_step(
    course: Course, phase: Callable[..., Classifier]
) -> None:
    """It was learned from peers; minutes of training would not keep it."""
    steps: list[float] = []
    learned = replace(course, grown=course.grown.grown([ClassName("7")], seed=1))
    with pytest.raises(UpdateRefusedError, match="nobody teaches 7 now"):
        phase(learned, 0, lambda done, total, message: steps.append(done))
    assert steps == []
