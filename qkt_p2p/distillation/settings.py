"""How a student learns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from qkt_p2p.models import Classifier

_LIGHTER_RATE: Final = 2.0


@dataclass(frozen=True, slots=True)
class LearningSettings:
    """The defaults are measured, see docs/method.md.

    The samples of responses are features behind the first `cut` blocks of the student, which stay as they
    are, and `lifelike` where they look like data. `trained_blocks` are the last blocks of the backbone that
    phase 1 trains with the head, 0 for all behind the cut. Training ends early below `enough_loss`.
    `calibration` in [0, 1] scales the odds of absent classes in the local loss: 0 masks them, 1 is the plain
    cross-entropy. `lift` is by how many nats absent classes are favoured over what synthetic samples say:
    real inputs, of which only own classes have any in training, push them down; `vague_lift` takes its place
    where teachers with a privacy budget say little of a class. The gate accepts an update
    where the query classes reach `least_query_accuracy` on held-out synthetic batches (`least_easy_accuracy`
    where these are not lifelike, and easier told apart) and the own classes lose at most `most_own_loss`, in
    mean, on held-out own data.
    """

    samples_per_class: int = 1000
    holdout_fraction: float = 0.1
    batch_size: int = 64
    phase1_steps: int = 1200
    phase1_learning_rate: float = 2e-3
    phase2_steps: int = 200
    phase2_learning_rate: float = 2e-3
    cut: int = 0
    lifelike: bool = True
    trained_blocks: int = 0
    enough_loss: float = 0.01
    weight_decay: float = 1e-2
    calibration: float = 0.03
    lift: float = 0.25
    vague_lift: float = 2.0
    least_query_accuracy: float = 0.3
    least_easy_accuracy: float = 0.7
    most_own_loss: float = 0.1

    def lighter(self) -> LearningSettings:
        """Return the settings of QKT Light: the last block and the head, fewer, shorter and bolder steps."""
        return replace(
            self,
            trained_blocks=1,
            batch_size=self.batch_size // 2,
            phase1_steps=self.phase1_steps // 2,
            phase1_learning_rate=self.phase1_learning_rate * _LIGHTER_RATE,
            phase2_steps=self.phase2_steps // 3,
        )

    def first_trained_block(self, student: Classifier) -> int:
        """Return the number of leading blocks that phase 1 leaves as they are."""
        last = len(student.backbone) - self.trained_blocks
        return max(self.cut, last) if self.trained_blocks else self.cut
