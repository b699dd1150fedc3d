"""The one gate that statistics of private data pass before anything made of them leaves the node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from qkt_p2p.errors import PeerRefusedError

if TYPE_CHECKING:
    from qkt_p2p.types import ClassName

Statistics = Mapping[str, npt.NDArray[np.float32]]
"""What is kept of a class: named arrays."""


class StatisticsCache(Protocol):
    """Where released statistics are kept, as bytes; a dict is one."""

    def get(self, key: str, /) -> bytes | None:
        """Return what is kept under a key, or None."""
        ...

    def __setitem__(self, key: str, data: bytes, /) -> None: ...


MIN_RELEASE_SAMPLES = 8
"""Fewest private samples behind released statistics; the mean of one sample is that sample."""

_LARGEST = 65_504.0
"""Largest number that travels as float16."""


def release(statistics: Statistics, *, class_name: ClassName, samples: int) -> Statistics:
    """Return what may be released of `statistics` made from `samples` inputs of a class.

    Raises PeerRefusedError where that is nothing.
    """
    require_enough(class_name, samples)
    # NaN fails this comparison too.
    if not all(np.abs(array).max(initial=0) <= _LARGEST for array in statistics.values()):
        raise PeerRefusedError(f"the statistics of {class_name} are not finite, or too large to travel")
    return statistics


def require_enough(class_name: ClassName, samples: int) -> None:
    """Raise PeerRefusedError where `samples` of a class are too few for anything to be released of them."""
    if samples < MIN_RELEASE_SAMPLES:
        raise PeerRefusedError(f"{samples} samples of {class_name} are fewer than {MIN_RELEASE_SAMPLES}")
