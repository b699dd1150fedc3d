"""How an asker's own samples lie where teachers' are drawn: among inputs, or among features of its stem."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final

import numpy as np

from qkt_p2p.seeds import derived_seed

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from qkt_p2p.datasets import LabelledData

    Samples = npt.NDArray[np.float32]

_LOOKED_AT: Final = 256
_FAR: Final = 30.0
"""How many times as far as the asker's own features a teacher's may reach: honest ones come to 4 times as far
as these, and at 300 times they do harm (docs/method.md)."""


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """What own samples tell of all that are drawn.

    None is below `low`, which is 0 behind a rectifier, and no honest one has a number of a size beyond
    `furthest`. `deviations` [n, d] are those of own `samples` [n, d] from the mean of their class.
    """

    low: float
    furthest: float
    deviations: Samples
    samples: Samples

    @classmethod
    def measured(
        cls, own: LabelledData, features: Callable[[Samples], Samples], *, most: int, seed: int
    ) -> Spread:
        """Look at as many of the samples as `most`, behind the stem that makes `features`."""
        some = own.select(
            np.random.default_rng(derived_seed(seed, "deviations")).permutation(len(own))[:most]
        )
        samples = features(some.inputs).reshape(len(some), -1)
        labels, at = np.unique(some.labels, return_inverse=True)
        means = np.stack([samples[some.labels == label].mean(0) for label in labels])
        rectified = features(own.inputs[:_LOOKED_AT]).min(initial=0.0) >= 0
        return cls(
            low=0.0 if rectified else -inf,
            # Where all own features are 0, they are no measure of others.
            furthest=_FAR * float(np.abs(samples).max(initial=0.0)) or inf,
            deviations=samples - means[at],
            samples=samples,
        )
