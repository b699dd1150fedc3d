"""Token buckets: how often strangers may call, by address and together, and how fast each peer is sent to."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from ipaddress import IPv6Address, IPv6Network
from typing import TYPE_CHECKING
from urllib.parse import unquote

from qkt_p2p.errors import PeerRefusedError
from qkt_p2p.limits import (
    ENROLLMENT_ADDRESSES,
    ENROLLMENT_CALLS_PER_ADDRESS,
    ENROLLMENT_CALLS_PER_SECOND,
    MAX_PEERS,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from qkt_p2p.types import PeerId


@dataclass(slots=True)
class _TokenBucket:
    """Fills by `rate` a second up to `most`. `at` is the time of `left`, below 0 where more was taken."""

    rate: float
    most: float
    left: float
    at: float

    def take(self, now: float) -> bool:
        """Take one where there is one."""
        if self.missing(now, 1):
            return False
        self.left -= 1
        return True

    def missing(self, now: float, amount: float) -> float:
        """Return how much must flow in before `amount` may be taken, or a full bucket where it is less."""
        self.left = min(self.most, self.left + (now - self.at) * self.rate)
        self.at = now
        return max(0.0, min(amount, self.most) - self.left)


class RateLimiter:
    """Admits a call or refuses it; the clock counts seconds and never goes back."""

    def __init__(
        self,
        *,
        each: tuple[float, int] = ENROLLMENT_CALLS_PER_ADDRESS,
        total: float = ENROLLMENT_CALLS_PER_SECOND,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._each = each
        self._all = _TokenBucket(total, total, total, clock())
        self._addresses: OrderedDict[str, _TokenBucket] = OrderedDict()

    def admit(self, address: str) -> None:
        """Count a call from `address`; raises PeerRefusedError where it comes too early."""
        now = self._clock()
        rate, most = self._each
        own = self._addresses.pop(address, None) or _TokenBucket(rate, most, most, now)
        self._addresses[address] = own
        if len(self._addresses) > ENROLLMENT_ADDRESSES:
            self._addresses.popitem(last=False)
        # An address that is refused takes nothing from the others.
        if not own.take(now):
            raise PeerRefusedError(
                f"too many calls from {address}: wait {math.ceil(1 / rate)} s, then repeat"
            )
        if not self._all.take(now):
            raise PeerRefusedError("too many calls from all addresses: wait some seconds, then repeat")


@dataclass(slots=True)
class _Lane:
    """What one peer is sent, whose streams take turns: a lock serves them in the order in which they come."""

    bucket: _TokenBucket
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Throttle:
    """Holds what each peer is sent to `rate` bytes a second, over all its streams; 0 holds nothing.

    After a pause a peer is sent one second's bytes at once. The peer silent for longest is forgotten first.
    """

    def __init__(
        self,
        rate: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._lanes: OrderedDict[PeerId, _Lane] = OrderedDict()

    async def admit(self, peer: PeerId, amount: int) -> None:
        """Return when `amount` bytes may be sent; whoever is cancelled meanwhile has taken none."""
        if not self._rate:
            return
        lane = self._lane(peer)
        async with lane.turn:
            while missing := lane.bucket.missing(self._clock(), amount):
                await self._sleep(missing / self._rate)
            lane.bucket.left -= amount

    def _lane(self, peer: PeerId) -> _Lane:
        lane = self._lanes.pop(peer, None)
        if lane is None:
            lane = _Lane(_TokenBucket(self._rate, self._rate, self._rate, self._clock()))
        self._lanes[peer] = lane
        if len(self._lanes) > MAX_PEERS:
            self._lanes.popitem(last=False)
        return lane


def address_in(peer: str) -> str:
    """Return the address in what grpc calls a peer, "ipv4:192.0.2.1:50000", without the port.

    Of IPv6 the network of 64 bits, because whoever has one address has all of them, but for this machine's.
    """
    kind, _, rest = unquote(peer).partition(":")
    host = rest.rpartition(":")[0].strip("[]")
    if kind != "ipv6":
        return host or peer
    try:
        found = IPv6Address(host)
    except ValueError:
        return host
    if found.ipv4_mapped:
        return str(found.ipv4_mapped)
    if found.is_loopback:
        return host
    return str(IPv6Network((found.packed[:8] + bytes(8), 64)))
