"""Where peers can dial this node."""

from __future__ import annotations

import ipaddress
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from qkt_p2p.errors import ConfigError
from qkt_p2p.limits import MAX_ADDRESSES

if TYPE_CHECKING:
    from qkt_node.settings import NodeConfig

_WILDCARDS: Final = ("0.0.0.0", "[::]")  # noqa: S104 - what is listened on

_ELSEWHERE: Final = {socket.AF_INET: "198.51.100.1", socket.AF_INET6: "2001:db8::1"}
"""Addresses that are nobody's (RFC 5737, RFC 3849): only a default route leads to them."""


def announced(config: NodeConfig, port: int) -> tuple[str, ...]:
    """Return the addresses that peers are told: those of node.toml, else what `listen` amounts to."""
    if config.node.announce:
        return config.node.announce
    host = config.node.listen.rpartition(":")[0]
    if host not in _WILDCARDS:
        return (f"{host}:{port}",)
    return tuple(f"{found}:{port}" for found in _interface_hosts(host)[:MAX_ADDRESSES])


def require_free(listen: str) -> None:
    """Raise ConfigError where this machine cannot listen on "host:port", and say why."""
    host, _, port = listen.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as trial:
            # As gRPC does: connections that are just being closed do not hold the port.
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
            trial.listen()
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {listen}: {(error.strerror or str(error)).lower()}",
            fix="set [node] listen in node.toml to a free host:port of this machine",
        ) from error


def left_out(listen: str) -> list[str]:
    """Return the addresses that a listener on "host:port" is not announced at, because there are too many."""
    host = listen.rpartition(":")[0]
    return _interface_hosts(host)[MAX_ADDRESSES:] if host in _WILDCARDS else []


def dialing_problems(config: NodeConfig) -> list[str]:
    """Return why peers elsewhere may not be able to dial this node; a sentence each."""
    node = config.node
    if node.outbound_only or node.announce:
        return []
    if unheard := left_out(node.listen):
        return [
            f"this machine has {MAX_ADDRESSES + len(unheard)} addresses, and peers are told {MAX_ADDRESSES}, "
            f"not {', '.join(unheard)}: name those at which peers dial in [node] announce"
        ]
    elsewhere = [each for each in config.discovery.bootstrap if not is_loopback(each)]
    if not elsewhere or not is_loopback(node.listen):
        return []
    return [
        f"this node listens on {node.listen}, which no other machine can dial, and has peers elsewhere "
        f'({elsewhere[0]}): set [node] listen = "0.0.0.0:7447", or outbound_only = true'
    ]


def is_loopback(listen: str) -> bool:
    """Tell whether "host:port" can be reached from this machine alone."""
    host = listen.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _interface_hosts(wildcard: str) -> list[str]:
    """Return this machine's addresses, those first at which others most likely reach it.

    The default route's come before all others, and last those of bridges, which containers and virtual
    machines have; loopback only where that is all.
    """
    import psutil  # noqa: PLC0415 - a megabyte that a node with a fixed address does not need

    families = (socket.AF_INET, socket.AF_INET6) if wildcard == "[::]" else (socket.AF_INET,)
    state = psutil.net_if_stats()
    found = {
        ipaddress.ip_address(address.address): name
        for name, addresses in psutil.net_if_addrs().items()
        for address in addresses
        # A link-local IPv6 address means nothing without the interface of the machine that dials.
        if address.family in families and "%" not in address.address
    }
    elsewhere = [address for address in found if not address.is_loopback]
    first = [_default_source(family) for family in families]
    usable = sorted(
        elsewhere or found,
        key=lambda address: (
            str(address) not in first,
            _is_bridge(found[address]),
            # One without a cable; one that was added since is not known yet.
            not ((its := state.get(found[address])) and its.isup),
            address.version,
            int(address),
        ),
    )
    return [f"[{address}]" if address.version == 6 else str(address) for address in usable]


def _default_source(family: socket.AddressFamily) -> str:
    """Return the address that this machine shows where its default route leads, "" without one."""
    # Connecting a datagram socket chooses a route and sends nothing.
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as trial:
        trial.connect((_ELSEWHERE[family], 9))
        return str(trial.getsockname()[0])
    return ""


def _is_bridge(interface: str) -> bool:
    """Tell whether an interface joins others within this machine, as those of containers' networks do."""
    return interface.startswith("veth") or Path("/sys/class/net", interface, "bridge").exists()
