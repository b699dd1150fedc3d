"""Where peers can dial this node."""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING, Final

from qkt_node.interfaces import connected_hosts, own_hosts
from qkt_p2p.errors import ConfigError
from qkt_p2p.limits import MAX_ADDRESSES

if TYPE_CHECKING:
    from qkt_node.settings import NodeConfig

_WILDCARDS: Final = ("0.0.0.0", "[::]")  # noqa: S104 - what is listened on


def announced(config: NodeConfig, port: int) -> tuple[str, ...]:
    """Return the addresses that peers are told: those of node.toml, else what `listen` amounts to."""
    if config.node.announce:
        return config.node.announce
    return tuple(f"{host}:{port}" for host in _hosts(config.node.listen)[:MAX_ADDRESSES])


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


def networks(listen: str) -> frozenset[str]:
    """Return this machine's addresses in the networks that it is connected to now.

    It is empty where the listener on "host:port" keeps to loopback, which no network changes.
    """
    return frozenset() if is_loopback(listen) else connected_hosts()


def left_out(listen: str) -> list[str]:
    """Return the hosts at which a listener on "host:port" answers, but which are too many to be told."""
    return _hosts(listen)[MAX_ADDRESSES:]


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
    if is_loopback(node.listen):
        return elsewhere[:1] and [
            f"this node listens on {node.listen}, which no other machine can dial, and has peers elsewhere "
            f'({elsewhere[0]}): set [node] listen = "0.0.0.0:7447", or outbound_only = true'
        ]
    if all(is_loopback(f"{host}:0") for host in _hosts(node.listen)):
        return [
            f"this machine has no address at which another one can dial {node.listen}; peers are told one as "
            "soon as there is"
        ]
    return []


def is_loopback(listen: str) -> bool:
    """Tell whether "host:port" can be reached from this machine alone."""
    host = listen.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_wildcard(address: str) -> bool:
    """Tell whether "host:port" stands for all addresses of a machine: to listen on, not to dial."""
    return address.rpartition(":")[0] in _WILDCARDS


def _hosts(listen: str) -> list[str]:
    """Return at which hosts a listener on "host:port" answers, those first that others most likely reach."""
    host = listen.rpartition(":")[0]
    return own_hosts(ipv6=host == "[::]") if is_wildcard(listen) else [host]
