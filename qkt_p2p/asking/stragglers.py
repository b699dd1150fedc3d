"""What is slow for a teacher, learned from how it did before: median and median absolute deviation."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

from qkt_p2p import limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qkt_p2p.types import TransferRecord

DEVIATIONS: Final = 4.0
"""k: seconds beyond the median, in deviations. Of normal times four in a hundred thousand take longer."""

_SCALE: Final = 1.4826
"""Turns a median absolute deviation into the standard deviation of a normal distribution."""

_LEAST_SPREAD: Final = 0.25
"""Deviation over median that is always allowed: a few equal times are no promise."""

_ENOUGH: Final = 3
"""Earlier transfers without which nothing is learned."""

_TELLING_BYTES: Final = 64 * 1024
"""Size from which a transfer tells a pace; smaller ones tell how long a message takes."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is slow for one teacher: more seconds until an offer, or more seconds for a byte after it.

    `learned` says whether they come from the teacher's own history.
    """

    offer_seconds: float
    byte_seconds: float
    learned: bool

    def transfer_seconds(self, missing: int) -> float:
        """Return how long `missing` bytes may take once they were offered."""
        return limits.STRAGGLER_GRACE_SECONDS + missing * self.byte_seconds


def bounds_from(earlier: Sequence[TransferRecord]) -> Bounds:
    """Return the bounds of a teacher from its earlier transfers; the default ones where they are too few."""
    offers = [record.offer_seconds for record in earlier]
    paces = [record.seconds / record.bytes for record in earlier if record.bytes >= _TELLING_BYTES]
    return Bounds(
        offer_seconds=max(usual_at_most(offers), limits.STRAGGLER_GRACE_SECONDS)
        if len(offers) >= _ENOUGH
        else limits.STRAGGLER_OFFER_SECONDS,
        byte_seconds=usual_at_most(paces) if len(paces) >= _ENOUGH else 1 / limits.STRAGGLER_BYTES_PER_SECOND,
        learned=len(offers) >= _ENOUGH,
    )


def usual_at_most(values: Sequence[float]) -> float:
    """Return median + k MAD of some values of at least 0: more than this is unusual."""
    middle = median(values)
    spread = _SCALE * median(abs(value - middle) for value in values)
    return middle + DEVIATIONS * max(spread, _LEAST_SPREAD * middle)


def learning_seconds_kept(deadline: float, earlier: Sequence[float]) -> float:
    """Return how much of a deadline to keep for learning: what it took at most lately, and half again.

    No more than LEARNING_SHARE of the deadline is kept, and that much where this node has not learned yet.
    """
    most = limits.LEARNING_SHARE * deadline
    return min(1.5 * max(earlier), most) if earlier else most
