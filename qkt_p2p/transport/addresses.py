"""Addresses as peers write them: "host:port" or "[ipv6]:port"."""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from typing import Final

from qkt_p2p.errors import PeerUnavailableError

_HOST: Final = re.compile(
    r"(?!.{254})[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?)*\.?", re.I
)
"""A DNS name or an IPv4 address. Anything else could mean more to a resolver than a host."""


def split_address(address: str) -> tuple[str, int]:
    """Return host (an IPv6 address without brackets) and port; raises PeerUnavailableError."""
    host, _, port = address.rpartition(":")
    digits = port.isascii() and port.isdecimal() and len(port) <= 5
    if not digits or not 0 < int(port) < 65536 or not _is_host(host):
        raise PeerUnavailableError(f"{address!r} is not host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)


def target_of(address: str) -> str:
    """Return what gRPC is to resolve for an address; raises PeerUnavailableError where it is none.

    With a scheme of our own no hint can name one: "unix:1" is a host, not a socket of this machine.
    """
    host, port = split_address(address)
    return f"dns:///[{host}]:{port}" if ":" in host else f"dns:///{host}:{port}"


def _is_host(host: str) -> bool:
    if not (host.startswith("[") and host.endswith("]")):
        return _HOST.fullmatch(host) is not None
    try:
        return not IPv6Address(host[1:-1]).scope_id
    except ValueError:
        return False
