"""The training loop: where it ends, what it tells, and what its batches follow from."""

from __future__ import annotations

from dataclasses import replace

import torch

from qkt_p2p.distillation import LearningSettings
from qkt_p2p.distillation.training import descend


def descent(
    enough_loss: float, *, steps: int = 200, start: float = 3.0, seed: int = 0
) -> tuple[float, list[float], list[int]]:
    """Minimize the distance of one number from 0; return it, the losses and where reports were made."""
    number = torch.nn.Parameter(torch.tensor(start))
    losses: list[float] = []
    reports: list[int] = []

    def loss(generator: torch.Generator) -> torch.Tensor:
        value = number.abs() + 0.01 * torch.rand(1, generator=generator).squeeze()
        losses.append(value.item())
        return value

    descend(
        loss,
        iter([number]),
        steps=steps,
        learning_rate=0.1,
        settings=replace(LearningSettings(), enough_loss=enough_loss),
        seed=seed,
        progress=lambda done, total, value: reports.append(done),
    )
    return number.item(), losses, reports


def test_all_steps_are_taken_where_nothing_is_enough() -> None:
    """Reports come every ten steps and at the end."""
    _, losses, reports = descent(0.0)
    assert len(losses) == 200
    assert reports == [*range(0, 200, 10), 200]


def test_training_ends_early_once_the_loss_is_small() -> None:
    """One lucky batch is not enough, the smoothed loss counts; the end is reported all the same."""
    _, losses, reports = descent(1.0)
    assert 10 < len(losses) < 200
    assert losses[-1] < 1.0
    assert sum(value < 1.0 for value in losses) > 1
    assert reports[-1] == 200


def test_batches_follow_from_the_seed() -> None:
    """The same seed draws the same, another seed something else."""
    assert descent(0.0, steps=5) == descent(0.0, steps=5)
    assert descent(0.0, steps=5) != descent(0.0, steps=5, seed=1)


def test_no_steps_change_nothing() -> None:
    """A phase that is switched off reports its end, and no loss."""
    assert descent(0.0, steps=0) == (3.0, [], [0])
