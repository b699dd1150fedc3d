"""How often a node speaks to its peers, and how it waits for those that do not answer."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from qkt_p2p.limits import HEARTBEAT_SECONDS, REDIAL_SECONDS

if TYPE_CHECKING:
    from qkt_p2p.errors import QktError

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """Mean seconds between beats; first and longest pause before dialing again; what else is repeated.

    Peers are exchanged right after hello and then every `exchange_every_beats`. A peer that is known by
    hearsay and has never answered is forgotten after `rounds_for_strangers`; its next hint is a new one.
    A node that drains waits `goodbye` seconds for a peer to hear of it.
    """

    heartbeat: float = HEARTBEAT_SECONDS
    redial: tuple[float, float] = REDIAL_SECONDS
    exchange_every_beats: int = 15
    rounds_for_strangers: int = 8
    goodbye: float = 1.0

    def next_beat(self) -> float:
        """Return seconds until the next beat: jittered, so that a federation does not beat at once."""
        return self.heartbeat * random.uniform(0.75, 1.25)  # noqa: S311


USUAL_PACE: Final = Pace()


def doubled(bounds: tuple[float, float], times: int) -> float:
    """Return the n-th of pauses that double from the first bound to the second, in seconds; 0 for the 0th."""
    first, longest = bounds
    return min(first * 2.0 ** min(times - 1, 32), longest) if times > 0 else 0.0


class Pauses:
    """Growing, jittered pauses of one follower; it logs a failure once, its repetitions for debugging."""

    def __init__(self, pace: Pace) -> None:
        self._first, self._longest = pace.redial
        self._ceiling = self._first
        self._logged = ""

    def next(self) -> float:
        """Return the next pause in seconds: the upper half of a range that doubles every time."""
        ceiling = self._ceiling
        self._ceiling = min(self._ceiling * 2, self._longest)
        return random.uniform(ceiling / 2, ceiling)  # noqa: S311

    def reset(self) -> None:
        """Start again with the first pause, after a success."""
        self._ceiling = self._first
        self._logged = ""

    def log(self, event: str, address: str, error: QktError) -> None:
        """Log why there is a pause."""
        (log.debug if error.message == self._logged else log.warning)(
            event, address=address, error=error.message
        )
        self._logged = error.message
