"""How a student learns."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LearningSettings:
    """The defaults are measured, see docs/method.md.

    `calibration` in [0, 1] scales the odds of absent classes in the local loss: 0 masks them (the
    default), 1 is the plain cross-entropy. The gate accepts an update where the query classes reach
    `least_query_accuracy` on held-out synthetic batches and the own classes lose at most
    `most_own_loss`, in mean, on held-out own data.
    """

    samples_per_class: int = 400
    holdout_fraction: float = 0.1
    batch_size: int = 64
    phase1_steps: int = 300
    phase1_learning_rate: float = 2e-3
    phase2_steps: int = 200
    phase2_learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    temperature: float = 2.0
    calibration: float = 0.0
    retention: float = 1.0
    least_query_accuracy: float = 0.7
    most_own_loss: float = 0.1
