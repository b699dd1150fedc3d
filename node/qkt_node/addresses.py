"""Where peers can dial this node."""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING

from qkt_p2p.errors import ConfigError
from qkt_p2p.limits import MAX_ADDRESSES

if TYPE_CHECKING:
    from qkt_node.settings import NodeConfig

_WILDCARDS = {"0.0.0.0": socket.AF_INET, "[::]": socket.AF_INET6}  # noqa: S104 - what is listened on


def announced(config: NodeConfig, port: int) -> tuple[str, ...]:
    """Return the addresses that peers are told: those of node.toml, else what `listen` amounts to."""
    if config.node.announce:
        return config.node.announce
    host = config.node.listen.rpartition(":")[0]
    if host not in _WILDCARDS:
        return (f"{host}:{port}",)
    hosts = _interface_hosts(ipv6=host == "[::]")
    return tuple(f"{found}:{port}" for found in hosts[:MAX_ADDRESSES])


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


def dialing_problems(config: NodeConfig) -> list[str]:
    """Return why peers elsewhere could not dial this node, though it names some; a sentence each."""
    node, elsewhere = config.node, [each for each in config.discovery.bootstrap if not is_loopback(each)]
    if node.outbound_only or node.announce or not elsewhere or not is_loopback(node.listen):
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


def _interface_hosts(*, ipv6: bool) -> list[str]:
    """Return this machine's addresses; loopback only where there is no other."""
    import psutil  # noqa: PLC0415 - a megabyte that a node with a fixed address does not need

    families = {socket.AF_INET, socket.AF_INET6} if ipv6 else {socket.AF_INET}
    found = [
        ipaddress.ip_address(address.address)
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        # A link-local IPv6 address means nothing without the interface of the machine that dials.
        if address.family in families and "%" not in address.address
    ]
    usable = [address for address in found if not address.is_loopback] or found
    return [f"[{address}]" if address.version == 6 else str(address) for address in sorted(usable, key=str)]
