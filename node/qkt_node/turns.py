"""Whose turn it is: calls that wait for one of few places, peer by peer, each peer's as they came."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, OrderedDict, deque
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Final

from qkt_p2p.errors import PeerBusyError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

    from qkt_p2p.errors import QktError
    from qkt_p2p.types import PeerId

_RECENT: Final = 16
"""Calls of which the mean says how long one takes."""

_UNKNOWN_SECONDS: Final = 2.0
"""How long a call is thought to take before any has ended."""

_LEAST_SECONDS: Final = 1.0
"""Sooner than after this nobody is asked to come again: a caller that is sent away costs work too."""


@dataclass(frozen=True, slots=True)
class Caps:
    """How many calls run and how many wait, of all peers together and of each."""

    running: int
    running_of_peer: int
    waiting: int = 0
    waiting_of_peer: int = 0


class Turn:
    """One call: it waits while `ahead`, the calls that must end before it begins, is not 0."""

    def __init__(self, peer: PeerId) -> None:
        self.peer = peer
        self.ahead = 1
        self.began = 0.0
        self._moved = asyncio.Event()
        self._refusal: QktError | None = None

    def move(self, ahead: int) -> None:
        """Take another place."""
        self.ahead = ahead
        self._moved.set()

    def refuse(self, error: QktError) -> None:
        """End the wait with an error."""
        self._refusal = error
        self._moved.set()

    async def positions(self, seconds: float) -> AsyncGenerator[int]:
        """Yield `ahead` of a call that waits: at once, when it is less than said, and every `seconds`.

        The last is 0; a call that need not wait has none. Raises what the call is refused with.
        """
        told = self.ahead
        while told:
            yield told
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._closer_than(told)
            told = self.ahead
            if not told:
                yield told

    async def _closer_than(self, told: int) -> None:
        while self.ahead >= told:
            if self._refusal is not None:
                raise self._refusal
            self._moved.clear()
            await self._moved.wait()


class Turns:
    """Gives calls their turns within `caps`; the clock counts seconds and never goes back.

    Peers are served in a ring: whoever was served goes to its end, so that many calls of one peer hold up
    no other. A first call's `ahead` never grows; a peer's further calls let the first of others pass.
    """

    def __init__(self, caps: Caps, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._caps = caps
        self._clock = clock
        self._running: Counter[PeerId] = Counter()
        self._waiting: OrderedDict[PeerId, deque[Turn]] = OrderedDict()
        self._seconds = deque([_UNKNOWN_SECONDS], maxlen=_RECENT)

    @property
    def running(self) -> int:
        """Calls that run."""
        return self._running.total()

    @property
    def waiting(self) -> int:
        """Calls that wait."""
        return sum(map(len, self._waiting.values()))

    @contextmanager
    def take(self, peer: PeerId) -> Iterator[Turn]:
        """Enter a call, which leaves with the block; raises PeerBusyError beyond the caps."""
        self._require_room(peer)
        turn = Turn(peer)
        self._waiting.setdefault(peer, deque()).append(turn)
        self._advance()
        try:
            yield turn
        finally:
            self._leave(turn)
            self._advance()

    def refuse_waiting(self, error: QktError) -> None:
        """End the wait of all that wait now."""
        for turn in self._in_order():
            turn.refuse(error)

    def _require_room(self, peer: PeerId) -> None:
        own = len(self._waiting.get(peer, ()))
        if self.running < self._caps.running and self._running[peer] < self._caps.running_of_peer:
            return
        if self.waiting >= self._caps.waiting:
            raise self._busy(peer, f"{self.running} calls run and {self.waiting} wait")
        if own >= self._caps.waiting_of_peer:
            raise self._busy(peer, f"of this peer {self._running[peer]} calls run and {own} wait")

    def _busy(self, peer: PeerId, what: str) -> PeerBusyError:
        """Return the error for one call too many: after `retry_after` those that wait had their turn."""
        rounds = len(self._waiting.get(peer, ())) + 1
        ahead = sum(min(len(turns), rounds) for turns in self._waiting.values()) + 1
        mean = sum(self._seconds) / len(self._seconds)
        expected = max(_LEAST_SECONDS, mean * ahead / self._caps.running)
        # Those who are sent away together shall not come back together.
        again = expected * random.uniform(1.0, 1.5)  # noqa: S311
        return PeerBusyError(f"{what}, ask again in {again:.0f} s", retry_after=again)

    def _advance(self) -> None:
        """Begin what can begin, and tell the others their places."""
        while self.running < self._caps.running and (peer := self._next()) is not None:
            turn = self._waiting[peer].popleft()
            self._drop_if_empty(peer)
            self._running[peer] += 1
            turn.began = self._clock()
            turn.move(0)
        for ahead, turn in enumerate(self._in_order(), start=1):
            turn.move(ahead)

    def _next(self) -> PeerId | None:
        """Return the peer whose call begins next, and send it to the end of the ring."""
        for peer in self._waiting:
            if self._running[peer] < self._caps.running_of_peer:
                self._waiting.move_to_end(peer)
                return peer
        return None

    def _in_order(self) -> Iterator[Turn]:
        """Yield the calls that wait in the order in which they begin where no others come."""
        for one_of_each in zip_longest(*self._waiting.values()):
            yield from (turn for turn in one_of_each if turn is not None)

    def _leave(self, turn: Turn) -> None:
        peer = turn.peer
        if turn.ahead:
            self._waiting[peer].remove(turn)
            self._drop_if_empty(peer)
            return
        self._seconds.append(self._clock() - turn.began)
        self._running[peer] -= 1
        if not self._running[peer]:
            del self._running[peer]

    def _drop_if_empty(self, peer: PeerId) -> None:
        if not self._waiting[peer]:
            del self._waiting[peer]
