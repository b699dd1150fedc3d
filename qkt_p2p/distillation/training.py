"""The training loop of both phases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

from qkt_p2p.models.device import seeded
from qkt_p2p.seeds import derived_seed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, nn

    from qkt_p2p.distillation.settings import LearningSettings

_STEPS_PER_REPORT: Final = 10
_SMOOTHING: Final = 0.95


def descend(
    loss: Callable[[torch.Generator], Tensor],
    parameters: Iterator[nn.Parameter],
    *,
    steps: int,
    learning_rate: float,
    settings: LearningSettings,
    seed: int,
    progress: Callable[[int, int, float], None],
) -> None:
    """Minimize `loss`, which draws its own batch, over at most `steps` steps of AdamW on a cosine schedule.

    What batches and layers draw follows from `seed`. Ends early once the smoothed loss is below
    `settings.enough_loss`: what is left to learn is then noise. `progress` is told (done,
    total, loss) every ten steps; what it raises ends the training.
    """
    trained = list(parameters)
    optimizer = torch.optim.AdamW(trained, lr=learning_rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
    generator = torch.Generator().manual_seed(seed)
    smoothed = 0.0
    with seeded(derived_seed(seed, "layers"), trained[0].device):
        for step in range(steps):
            value = loss(generator)
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            smoothed = _SMOOTHING * smoothed + (1 - _SMOOTHING) * value.item()
            if step % _STEPS_PER_REPORT == 0:
                progress(step, steps, value.item())
            if smoothed / (1 - _SMOOTHING ** (step + 1)) < settings.enough_loss:
                break
    progress(steps, steps, smoothed / (1 - _SMOOTHING ** max(step + 1, 1)) if steps else 0.0)
