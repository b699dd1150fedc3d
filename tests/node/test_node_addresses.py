"""Where a node listens, and what it tells peers to dial."""

from __future__ import annotations

import socket

import pytest

from qkt_node.addresses import announced, dialing_problems, is_loopback, require_free
from qkt_node.settings import DiscoverySection, NodeConfig, NodeSection
from qkt_p2p.errors import ConfigError
from qkt_p2p.limits import MAX_ADDRESSES
from tests.node.machine import Machine


def listening(listen: str, announce: tuple[str, ...] = ()) -> NodeConfig:
    return NodeConfig(node=NodeSection(listen=listen, announce=announce))


def test_a_plain_address_is_told_with_the_real_port() -> None:
    """Port 0 becomes what the system chose; names and IPv6 stay as they are written."""
    assert announced(listening("127.0.0.1:0"), 7) == ("127.0.0.1:7",)
    assert announced(listening("node.example:7447"), 7447) == ("node.example:7447",)
    assert announced(listening("[::1]:0"), 7) == ("[::1]:7",)


def test_what_the_owner_announces_wins() -> None:
    """Behind a port forward only the owner knows the address."""
    assert announced(listening("0.0.0.0:1", ("public.example:443",)), 1) == ("public.example:443",)


def test_a_wildcard_becomes_the_addresses_of_this_machine(machine: Machine) -> None:
    """Loopback and link-local addresses are left out."""
    machine.has("lo", "127.0.0.1", "::1")
    machine.has("eth0", "10.0.0.5", "fd00::5", "fe80::1%eth0")
    assert announced(listening("0.0.0.0:0"), 7) == ("10.0.0.5:7",)
    assert announced(listening("[::]:0"), 7) == ("10.0.0.5:7", "[fd00::5]:7")
    machine.has("eth0")
    assert announced(listening("0.0.0.0:0"), 7) == ("127.0.0.1:7",)


def test_the_address_that_others_reach_comes_first(machine: Machine) -> None:
    """That of the default route, others as numbers, those without a cable, and then those of containers."""
    machine.has("veth1", "10.1.0.1")
    machine.has("eth0", "10.0.0.30", "10.0.0.4")
    machine.has("wlan0", "192.168.10.5")
    machine.has("eth1", "10.0.0.1", cable=False)
    assert announced(listening("0.0.0.0:0"), 7) == (
        "10.0.0.4:7",
        "10.0.0.30:7",
        "192.168.10.5:7",
        "10.0.0.1:7",
        "10.1.0.1:7",
    )
    machine.default = "192.168.10.5"
    assert announced(listening("0.0.0.0:0"), 7)[:2] == ("192.168.10.5:7", "10.0.0.4:7")


def test_no_more_is_told_than_peers_take(machine: Machine) -> None:
    """What nobody is told is named in a warning, unless its owner says where the node is dialed."""
    machine.has("eth0", *(f"10.0.1.{number}" for number in range(1, MAX_ADDRESSES + 3)))
    config = listening("0.0.0.0:0")
    assert len(announced(config, 7)) == MAX_ADDRESSES
    [problem] = dialing_problems(config)
    assert "has 10 addresses, and peers are told 8, not 10.0.1.9, 10.0.1.10" in problem
    assert dialing_problems(listening("0.0.0.0:0", ("public.example:443",))) == []
    assert dialing_problems(listening("127.0.0.1:0")) == []


def test_a_machine_without_a_network_says_so(machine: Machine) -> None:
    """Until it has one, and where the node would listen to it."""
    machine.has("lo", "127.0.0.1")
    [problem] = dialing_problems(listening("0.0.0.0:7447"))
    assert "no address at which another one can dial 0.0.0.0:7447" in problem
    assert dialing_problems(listening("127.0.0.1:7447")) == []
    machine.has("eth0", "10.0.0.5")
    assert dialing_problems(listening("0.0.0.0:7447")) == []


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:0", "0.0.0.0:0"])
def test_a_free_address(listen: str) -> None:
    """Trying an address leaves it free."""
    require_free(listen)


def test_addresses_that_cannot_be_listened_on() -> None:
    """Taken, foreign and unknown addresses are told apart."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match="address already in use") as raised:
            require_free(f"127.0.0.1:{taken.getsockname()[1]}")
        assert "listen in node.toml" in raised.value.fix
    # 192.0.2.0/24 is kept for documentation (RFC 5737).
    with pytest.raises(ConfigError, match="cannot assign requested address"):
        require_free("192.0.2.1:0")
    with pytest.raises(ConfigError, match=r"cannot listen on no\.such\.host\.invalid:0"):
        require_free("no.such.host.invalid:0")


def test_loopback_is_told_from_networks() -> None:
    """What is reachable from this machine alone is not published elsewhere."""
    assert is_loopback("127.0.0.1:1")
    assert is_loopback("[::1]:1")
    assert is_loopback("localhost:1")
    assert not is_loopback("0.0.0.0:1")
    assert not is_loopback("node.example:1")


@pytest.mark.parametrize(
    ("node", "bootstrap", "warned"),
    [
        (NodeSection(listen="127.0.0.1:7447"), ("ward-7.example:7447",), True),
        (NodeSection(listen="[::1]:7447"), ("127.0.0.1:1", "10.0.0.5:7447"), True),
        (NodeSection(listen="127.0.0.1:7447"), ("127.0.0.1:7448", "localhost:7449"), False),
        (NodeSection(listen="127.0.0.1:7447"), (), False),
        (NodeSection(listen="127.0.0.1:7447", outbound_only=True), ("10.0.0.5:7447",), False),
        (NodeSection(listen="127.0.0.1:7447", announce=("gateway:7447",)), ("10.0.0.5:7447",), False),
        (NodeSection(listen="0.0.0.0:7447"), ("10.0.0.5:7447",), False),
    ],
)
def test_a_node_that_its_peers_cannot_dial_says_so(
    node: NodeSection, bootstrap: tuple[str, ...], warned: bool
) -> None:
    """Listening on loopback with peers on other machines is a mistake, unless the owner says otherwise."""
    config = NodeConfig(node=node, discovery=DiscoverySection(bootstrap=bootstrap))
    problems = dialing_problems(config)
    assert bool(problems) is warned
    assert all(node.listen in problem and "0.0.0.0:7447" in problem for problem in problems)
