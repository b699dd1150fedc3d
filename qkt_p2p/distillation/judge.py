"""What a model that knows its own classes makes of samples that others say are of them."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
import torch

from qkt_p2p.distillation.pool import ENOUGH_SAMPLES
from qkt_p2p.errors import PeerError
from qkt_p2p.models import logits_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from qkt_p2p.distillation.responses import Response
    from qkt_p2p.models import Classifier
    from qkt_p2p.types import ClassName


@dataclass(frozen=True, slots=True)
class Judge:
    """The asker's model before the query, and the `counts` of its own samples of each class.

    The samples of responses are features behind the first `cut` blocks of the model.
    """

    before: Classifier
    counts: Mapping[ClassName, int]
    cut: int

    @property
    def competent(self) -> bool:
        """Whether two classes are well known: who knows but one takes anything for that class."""
        return len(self._well_known()) > 1

    def recognized(self, response: Response) -> float:
        """Return the share of samples of L_s that the model takes for their class; 1 of none."""
        return self._recognized(response, self.before.trained)

    def require_agreement(self, response: Response) -> None:
        """Raise PeerError for a teacher whose samples of L_s look like other classes: wrong labels.

        Of classes of which it saw only a few samples the model is no judge, and of a single class that both
        know it cannot tell what is a wrong label from what is its own leaning.
        """
        shared = set(self._well_known()).intersection(response.classes)
        if len(shared) < 2:
            return
        if (share := self._recognized(response, shared)) < 1 / len(self.before.trained):
            raise PeerError(
                f"it disagrees with this node's model: of its samples of classes that both know, {share:.0%} "
                "look like what it says"
            )

    def _well_known(self) -> list[ClassName]:
        return [name for name in self.before.trained if self.counts.get(name, 0) >= ENOUGH_SAMPLES]

    def _recognized(self, response: Response, among: Collection[ClassName]) -> float:
        rows = self.before.rows(self.before.trained)
        columns = [at for at, name in enumerate(response.classes) if name in among]
        known = response.select(np.flatnonzero(np.isin(response.labels, columns)))
        if not len(known):
            return 1.0
        logits = logits_of(self.before, torch.from_numpy(known.inputs), cut=self.cut)[:, rows]
        seen = [self.before.classes[rows[at]] for at in logits.argmax(1).tolist()]
        return fmean(name == known.classes[at] for name, at in zip(seen, known.labels, strict=True))
