"""What teachers taught, as the student trains on it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from qkt_p2p.datasets.labelled import first_of_each, stratified_split

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from qkt_p2p.datasets import LabelledData
    from qkt_p2p.types import ClassName
    from qkt_p2p.wire.tensors import SyntheticBatch


@dataclass(frozen=True, slots=True, eq=False)
class Response:
    """Samples, float32 [n, ...], and targets, float32 [n, k] over `classes`, from one `source`.

    Samples are inputs [n, C, H, W], or features behind the first blocks of the student's backbone.

    The class of a sample is that of its largest target. `weights` say how often, relative to other
    sources, samples of a class are drawn; classes that it does not name weigh 1. Where samples are not
    `lifelike`, what a student makes of them flatters it.
    """

    source: str
    classes: tuple[ClassName, ...]
    inputs: npt.NDArray[np.float32]
    targets: npt.NDArray[np.float32]
    weights: Mapping[ClassName, float]
    lifelike: bool = True

    @classmethod
    def from_batch(
        cls, source: str, batch: SyntheticBatch, weights: Mapping[ClassName, float] | None = None
    ) -> Response:
        """Return a decoded batch as the response of `source`."""
        return cls(source, batch.classes, batch.inputs, batch.targets, weights or {}, batch.lifelike)

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Column of each sample's class [n]."""
        labels: npt.NDArray[np.int64] = self.targets.argmax(1)
        return labels

    def select(self, indices: npt.NDArray[np.int64]) -> Response:
        """Return the samples at `indices`."""
        return replace(self, inputs=self.inputs[indices], targets=self.targets[indices])

    def at_most(self, count: int) -> Response:
        """Return the first `count` samples of each class, and itself where there are no more."""
        kept = first_of_each(self.labels, count)
        return self if len(kept) == len(self) else self.select(kept)


def split_responses(
    responses: Sequence[Response], fraction: float, *, seed: int
) -> tuple[list[Response], list[Response]]:
    """Return (rest, holdout): `fraction` of each class of each response is held out, not its last sample."""
    generator = np.random.default_rng(seed)
    rest: list[Response] = []
    held: list[Response] = []
    for response in responses:
        shown, unseen = stratified_split(response.labels, len(response.classes), fraction, generator)
        rest.append(response.select(shown))
        held.append(response.select(unseen))
    return rest, held


def oracle_responses(data: Mapping[str, LabelledData], classes: Collection[ClassName]) -> list[Response]:
    """Return the real samples of `classes` that each source holds, as if it had taught them.

    Training on these is the oracle that `moments` is measured against; nothing but an experiment may have
    the data of several nodes in one place.
    """
    responses = []
    for source, its_data in data.items():
        mask = tuple(name for name in its_data.present if name in classes)
        if mask:
            chosen = its_data.restrict(mask, seed=0)
            columns = np.array([mask.index(name) if name in mask else 0 for name in its_data.classes])
            targets = np.eye(len(mask), dtype=np.float32)[columns[chosen.labels]]
            responses.append(Response(source, mask, chosen.inputs, targets, {}))
    return responses
