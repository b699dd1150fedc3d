"""Training data of one student as tensors over the rows of its head, and class-balanced batches of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor

from qkt_p2p.errors import ConfigError, UpdateRefusedError
from qkt_p2p.models.device import mixed_precision

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from qkt_p2p.datasets import LabelledData
    from qkt_p2p.distillation.responses import Response
    from qkt_p2p.models import Classifier

_BATCH: Final = 512

ENOUGH_SAMPLES: Final = 32
"""Own samples from which a class counts as present. One with fewer is drawn less often, so that a handful is
not learned by heart, and the local loss masks it as if it were absent."""


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """Inputs or features [n, ...], targets [n, k] over the head's k rows, and the chance of each sample [n].

    The first two are on the student's device; chances stay on the CPU, which draws alike everywhere.
    """

    inputs: Tensor
    targets: Tensor
    chances: Tensor

    @property
    def labels(self) -> Tensor:
        """Row of each sample's class [n]."""
        return self.targets.argmax(1)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Return indices [count], drawn with replacement so that all classes are equally frequent."""
        return torch.multinomial(self.chances, count, replacement=True, generator=generator)

    def advanced(self, student: Classifier, start: int, end: int) -> Pool:
        """Return the pool behind the student's blocks `start` to `end`, these in evaluation mode."""
        if start == end:
            return self
        blocks = student.backbone[start:end].eval()
        with torch.no_grad(), mixed_precision(student.device):
            features = torch.cat([blocks(part).float() for part in torch.split(self.inputs, _BATCH)])
        return Pool(features, self.targets, self.chances)


def response_pool(student: Classifier, responses: Sequence[Response]) -> Pool:
    """Return what teachers taught of classes that the student has or learns.

    Raises ConfigError where that is nothing.
    """
    inputs, targets, weights = [], [], []
    for response in responses:
        columns = [at for at, name in enumerate(response.classes) if name in student.trained]
        labels = response.labels
        by_column = np.array([response.weights.get(name, 1.0) for name in response.classes], np.float64)
        kept = np.flatnonzero(np.isin(labels, columns) & (by_column[labels] > 0))
        rows = [student.classes.index(response.classes[at]) for at in columns]
        placed = np.zeros((len(kept), len(student.classes)), np.float32)
        chosen = response.targets[np.ix_(kept, np.array(columns, np.int64))]
        placed[:, rows] = chosen / chosen.sum(1, keepdims=True)
        inputs.append(response.inputs[kept])
        targets.append(placed)
        weights.append(by_column[labels[kept]])
    if not sum(len(part) for part in inputs):
        raise ConfigError("the teachers taught no class that the student wants", fix="qkt-node peers")
    return _pool(student, np.concatenate(inputs), np.concatenate(targets), np.concatenate(weights))


def own_pool(student: Classifier, own: LabelledData) -> Pool:
    """Return the student's own data of classes that it has or learns; ConfigError where there is none."""
    data = own.restrict([name for name in own.present if name in student.trained], seed=0)
    if not len(data):
        raise ConfigError("the own data holds no class of the model", fix="start a new home for this data")
    rows = np.array([student.classes.index(name) if name in student.classes else 0 for name in data.classes])
    targets = np.eye(len(student.classes), dtype=np.float32)[rows[data.labels]]
    pool = _pool(student, data.inputs, targets, np.ones(len(data)))
    counts = torch.from_numpy(np.bincount(data.labels, minlength=len(data.classes))[data.labels])
    return Pool(pool.inputs, pool.targets, pool.chances * (counts / ENOUGH_SAMPLES).clamp(max=1))


def absent_rows(student: Classifier, own: Pool) -> list[int]:
    """Return the rows that the student learns or has learned mostly from others: its own data lacks them."""
    counts = torch.bincount(own.labels, minlength=len(student.classes)).tolist()
    present = [row for row, count in enumerate(counts) if count >= ENOUGH_SAMPLES]
    # A node that has little of everything has nothing better than that little.
    present = present or [row for row, count in enumerate(counts) if count]
    return [row for row in student.rows(student.trained) if row not in present]


def check_guarded(student: Classifier, taught: Pool, own: Pool) -> None:
    """Raise UpdateRefusedError where a class of the student has no sample anywhere: it would be forgotten.

    That is so where a class was learned from peers of which none teaches it now.
    """
    sampled = {*taught.labels.tolist(), *own.labels.tolist()}
    lost = [student.classes[row] for row in student.rows(student.trained) if row not in sampled]
    if lost:
        raise UpdateRefusedError(
            f"nobody teaches {', '.join(lost)} now, and this update would forget it", fix="qkt-node peers"
        )


def _pool(
    student: Classifier,
    inputs: npt.NDArray[np.float32],
    targets: npt.NDArray[np.float32],
    weights: npt.NDArray[np.float64],
) -> Pool:
    labels = targets.argmax(1)
    totals = np.bincount(labels, weights, minlength=targets.shape[1])
    return Pool(
        student.placed(torch.from_numpy(inputs)),
        torch.from_numpy(targets).to(student.device),
        torch.from_numpy(weights / totals[labels]),
    )
