"""Where hosts can be dialed, and who is not told."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.netns.lan import Lan

if TYPE_CHECKING:
    from tests.netns.nodes import Network
    from tests.netns.stopwatch import Stopwatch


@pytest.mark.parametrize("way", ["bootstrap", "mdns"])
async def test_hosts_with_ipv6_alone_meet(network: Network, stopwatch: Stopwatch, way: str) -> None:
    """Hosts without IPv4 meet where one is told the other's address in brackets, and by mDNS."""
    network.plug_in("alice", "fd00::1/64")
    network.plug_in("bob", "fd00::2/64")
    settings = {"QKT_NODE_LISTEN": "[::]:7447"}
    if way == "bootstrap":
        settings |= {"QKT_DISCOVERY_MDNS": "false", "QKT_DISCOVERY_BOOTSTRAP": "[fd00::2]:7447"}
    [bob] = await network.start("bob", **settings)
    async with stopwatch.within(5.0, f"first contact over IPv6 ({way}) after the second host was started"):
        [alice] = await network.start("alice", **settings)
        await asyncio.gather(alice.until_state(bob, "live"), bob.until_state(alice, "live"))
    assert (await alice.peers())[bob.peer].address == "[fd00::2]:7447"


def test_networks_within_a_host_come_last() -> None:
    """Others reach it over its cable, whatever the addresses of its containers' bridges are."""
    program = "from qkt_node.interfaces import own_hosts; print(*own_hosts(ipv6=False))"
    with Lan() as lan:
        lan.add_host("alice", "192.168.10.5/24")
        lan.add_bridge("alice", "10.0.0.1/24")
        told = subprocess.check_output(lan.command("alice", sys.executable, "-c", program), text=True)
    assert told.split() == ["192.168.10.5", "10.0.0.1"]


async def test_a_loopback_listener_is_told_to_nobody(network: Network) -> None:
    """Hosts that meet by mDNS hear nothing of a third, up before them, that listens on loopback alone."""
    [carol] = await network.start("carol", QKT_NODE_LISTEN="127.0.0.1:7447")
    alice, bob = await network.meet("alice", "bob")
    for node in (alice, bob):
        assert carol.peer not in await node.peers()
        assert not node.logged("mdns_hint", peer=carol.peer[:8])
    assert await carol.peers() == {}


async def test_a_host_whose_network_comes_late_is_found(network: Network, stopwatch: Stopwatch) -> None:
    """A daemon that was started before its network was up tells of itself in it, where it is by then."""
    network.set_up("alice")
    alice, bob = await network.start("alice", "bob")
    async with stopwatch.within(12.0, "first contact after a started host got its network"):
        network.lan.connect("alice", "10.0.0.9/24")
        await asyncio.gather(alice.until_state(bob, "live"), bob.until_state(alice, "live"))
        await bob.until(lambda peers: peers[alice.peer].address == "10.0.0.9:7447")


async def test_a_host_with_a_new_address_is_dialed_there(network: Network, stopwatch: Stopwatch) -> None:
    """Peers that knew the old one, and one that comes later, reach the daemon that runs on."""
    alice, bob = await network.meet("alice", "bob")
    async with stopwatch.within(30.0, "all dial a host where it is after its address changed"):
        network.lan.renumber("bob", "10.0.0.77/24")
        await bob.until_logged("addresses_changed")
        [carol] = await network.start("carol")
        for node in (alice, carol):
            await node.until_state(bob, "live")
            await node.until(lambda peers: peers[bob.peer].address == "10.0.0.77:7447")


async def test_two_federations_ignore_each_other(network: Network) -> None:
    """A host of another federation is heard, passed over with a reason in the debug log, and never dialed."""
    [mallory] = await network.start("mallory")
    alice, bob = await network.meet("alice", "bob")
    async with asyncio.timeout(10.0):
        for node, stranger in ((alice, mallory), (bob, mallory), (mallory, alice), (mallory, bob)):
            found = await node.until_logged("mdns_ignored", peer=stranger.peer[:8])
            assert found["reason"] == "another federation"
    assert mallory.peer not in await alice.peers() | await bob.peers()
    assert await mallory.peers() == {}
    assert not mallory.logged("call_served", method="Hello")
