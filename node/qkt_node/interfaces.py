"""This machine's network interfaces, and at which of their addresses others most likely reach it."""

from __future__ import annotations

import ipaddress
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}

_ELSEWHERE: Final = {4: "198.51.100.1", 6: "2001:db8::1"}
"""Addresses that are nobody's (RFC 5737, RFC 3849): only a default route leads to them."""


@dataclass(frozen=True, slots=True)
class _Own:
    """One address of this machine, and whether its interface has a cable, or whatever it needs."""

    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    interface: str
    connected: bool


def own_hosts(*, ipv6: bool) -> list[str]:
    """Return this machine's addresses, as they stand before a port; loopback only where that is all.

    The default route's come first, and last those of bridges, which containers and virtual machines have.
    """
    found = [own for own in _all_own() if ipv6 or own.address.version == 4]
    usable = [own for own in found if not own.address.is_loopback] or found
    default = {_default_source(version) for version in _FAMILIES}
    usable.sort(
        key=lambda own: (
            str(own.address) not in default,
            _is_bridge(own.interface),
            not own.connected,
            own.address.version,
            int(own.address),
        )
    )
    return [f"[{own.address}]" if own.address.version == 6 else str(own.address) for own in usable]


def connected_hosts() -> frozenset[str]:
    """Return this machine's addresses in networks that it is connected to at this moment."""
    return frozenset(str(own.address) for own in _all_own() if own.connected and not own.address.is_loopback)


def _all_own() -> Iterator[_Own]:
    import psutil  # noqa: PLC0415 - a megabyte that a node which keeps to loopback does not need

    connected = {name for name, state in psutil.net_if_stats().items() if state.isup}
    for name, addresses in psutil.net_if_addrs().items():
        for each in addresses:
            # A link-local IPv6 address means nothing without the interface of the machine that dials.
            if each.family in _FAMILIES.values() and "%" not in each.address:
                yield _Own(ipaddress.ip_address(each.address), name, name in connected)


def _default_source(version: int) -> str:
    """Return the address that this machine shows where its default route leads, "" without one."""
    # Connecting a datagram socket chooses a route and sends nothing.
    with suppress(OSError), socket.socket(_FAMILIES[version], socket.SOCK_DGRAM) as trial:
        trial.connect((_ELSEWHERE[version], 9))
        return str(trial.getsockname()[0])
    return ""


def _is_bridge(interface: str) -> bool:
    """Tell whether an interface joins others within this machine, as those of containers' networks do."""
    return interface.startswith("veth") or Path("/sys/class/net", interface, "bridge").exists()
