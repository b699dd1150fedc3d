"""When to ask a peer again that failed, and after which pause."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from qkt_p2p import limits
from qkt_p2p.discovery.pace import doubled
from qkt_p2p.errors import PEER_FAILURES, PeerBusyError, PeerUnavailableError, QktError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Patience:
    """How often one peer is asked: `attempts` in a row that bring nothing, `busy` where it says so itself.

    One that nobody can replace is asked for `away` seconds, however often that is.
    `pauses` are the ceilings of the first and of the longest pause, in seconds; a busy peer may ask for up to
    `busy_pause`. Where it is not to `cut_slow` teachers, all are waited for until the query's deadline.
    """

    attempts: int = limits.ATTEMPTS
    pauses: tuple[float, float] = limits.RETRY_SECONDS
    away: float = limits.AWAY_SECONDS
    busy: int = limits.BUSY_ATTEMPTS
    busy_pause: float = limits.BUSY_SECONDS
    cut_slow: bool = True


USUAL_PATIENCE: Final = Patience()
ONCE_MORE: Final = Patience(attempts=2, pauses=(limits.RETRY_SECONDS[0], 2 * limits.RETRY_SECONDS[0]))
ENDLESS: Final = Patience(cut_slow=False)
"""For measurements: what is learned does not depend on how fast this machine is."""


@dataclass(slots=True)
class Attempts:
    """The attempts at one peer, and the pauses between them: full jitter below a ceiling that doubles.

    Full jitter keeps those apart who lost the same peer at the same moment. `clock` tells seconds.
    """

    patience: Patience = USUAL_PATIENCE
    chance: random.Random = field(default_factory=random.Random)
    clock: Callable[[], float] = time.monotonic
    _failed: int = 0
    _away_since: float = 0.0
    _busy: int = 0

    def pause_after(self, error: QktError, *, progressed: bool, needed: bool = False) -> float:
        """Return the seconds to wait before the next attempt; `progressed`: this one brought something.

        A peer that is away is given up after a number of attempts, or after a time where it is `needed`.
        Raises `error` where there should be none: the peer refused, broke the protocol, or failed too often.
        """
        if progressed:
            self._failed = self._busy = 0
        match error:
            case PeerBusyError():
                self._busy += 1
                if self._busy < self.patience.busy:
                    return self._busy_pause(error.retry_after)
            case PeerUnavailableError():
                if not self._failed:
                    self._away_since = self.clock()
                self._failed += 1
                if self._failed < self.patience.attempts or (needed and self._may_come_back()):
                    return self._full_jitter(self._failed)
        raise error

    def _may_come_back(self) -> bool:
        return self.clock() < self._away_since + self.patience.away

    def _busy_pause(self, asked_for: float) -> float:
        """Wait as long as the peer asks, and up to half as long again, so that not all come back at once."""
        wanted = min(max(asked_for, 0.0), self.patience.busy_pause)
        return wanted * self.chance.uniform(1.0, 1.5) if wanted else self._full_jitter(self._busy)

    def _full_jitter(self, number: int) -> float:
        return self.chance.uniform(0.0, doubled(self.patience.pauses, number))


async def asked_again(call: Callable[[], Awaitable[T]], *, needed: Callable[[], bool]) -> T:
    """Return what a call returns that may be repeated, as ONCE_MORE says and not after CALL_SECONDS.

    A peer that is away while it is `needed` is asked until then, however often that is.
    """
    attempts, time = Attempts(ONCE_MORE), asyncio.get_running_loop().time
    end_at = time() + limits.CALL_SECONDS
    while True:
        try:
            return await call()
        except PEER_FAILURES as error:
            pause = attempts.pause_after(error, progressed=False, needed=needed())
            if time() + pause >= end_at:
                raise
        await asyncio.sleep(pause)
