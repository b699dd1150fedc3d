"""How often strangers may call: an allowance for each address, and one for all together."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from typing import TYPE_CHECKING
from urllib.parse import unquote

from qkt_p2p.errors import PeerRefusedError
from qkt_p2p.limits import (
    ENROLLMENT_ADDRESSES,
    ENROLLMENT_CALLS_PER_ADDRESS,
    ENROLLMENT_CALLS_PER_SECOND,
)

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(slots=True)
class _Allowance:
    """Grows by `rate` a second up to `most`; a call takes one. `at` is the time of `left`."""

    rate: float
    most: float
    left: float
    at: float

    def take(self, now: float) -> bool:
        self.left = min(self.most, self.left + (now - self.at) * self.rate)
        self.at = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


class Pace:
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
        self._all = _Allowance(total, total, total, clock())
        self._addresses: OrderedDict[str, _Allowance] = OrderedDict()

    def admit(self, address: str) -> None:
        """Count a call from `address`; raises PeerRefusedError where it comes too early."""
        now = self._clock()
        rate, most = self._each
        own = self._addresses.pop(address, None) or _Allowance(rate, most, most, now)
        self._addresses[address] = own
        if len(self._addresses) > ENROLLMENT_ADDRESSES:
            self._addresses.popitem(last=False)
        # An address that is refused takes nothing from the others.
        if not own.take(now):
            raise PeerRefusedError(f"too many calls from {address}: wait {1 / rate:.0f} s, then repeat")
        if not self._all.take(now):
            raise PeerRefusedError("too many calls from all addresses: wait some seconds, then repeat")


def address_in(peer: str) -> str:
    """Return the address in what grpc calls a peer, "ipv4:192.0.2.1:50000", without the port.

    Of IPv6 the network of 64 bits, because whoever has one address has all of them.
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
    return str(IPv6Network((found.packed[:8] + bytes(8), 64)))
