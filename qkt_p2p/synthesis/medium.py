"""What a medium is, and which there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from qkt_p2p.synthesis.moments import Moments
from qkt_p2p.types import MEDIA

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from qkt_p2p.synthesis.release import Statistics
    from qkt_p2p.types import MediumName, Shape


class Medium(Protocol):
    """A way to describe one class's private inputs by statistics, and to draw synthetic inputs from those."""

    @property
    def name(self) -> MediumName:
        """Name on the wire."""

    def fit(self, inputs: npt.NDArray[np.float32], *, seed: int) -> Statistics:
        """Return statistics of inputs [n, C, H, W]; they have not passed the release gate yet."""

    def sample(
        self, statistics: Statistics, count: int, *, shape: Shape, seed: int
    ) -> npt.NDArray[np.float32]:
        """Return `count` synthetic inputs [count, C, H, W] in [0, 1]."""


def medium_of(name: str) -> Medium | None:
    """Return the medium of that name, None where there is none."""
    media: dict[MediumName, Medium] = {"moments": Moments()}
    return next((medium for known, medium in media.items() if known == name and known in MEDIA), None)
