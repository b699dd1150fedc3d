"""Hosts behind a wall, and hosts that are dialed elsewhere than where they listen."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.netns.nodes import Network
    from tests.netns.stopwatch import Stopwatch


async def test_a_host_that_only_calls_out_teaches(network: Network, stopwatch: Stopwatch) -> None:
    """It finds others by mDNS, which tells nobody of it, and is asked over the connection that it opens."""
    [alice] = await network.start("alice")
    async with stopwatch.within(5.0, "first contact after an outbound-only host was started"):
        [bob] = await network.start("bob", QKT_NODE_OUTBOUND_ONLY="true")
        await asyncio.gather(alice.until_state(bob, "live"), bob.until_state(alice, "live"))
    async with stopwatch.within(30.0, "query to an outbound-only host"):
        events = [event async for event in alice.query("2")]
    (teacher,) = events[-1]["data"]["teachers"]
    assert (teacher["name"], teacher["classes"]) == ("bob", ["2"])
    shown = (await alice.peers())[bob.peer]
    assert (shown.address, shown.found_by) == ("", "inbound")
    assert not alice.logged("mdns_hint", peer=bob.peer[:8])


async def test_a_killed_host_that_only_calls_out_is_noticed(network: Network, stopwatch: Stopwatch) -> None:
    """As any other: after kill -9 it is not live within 10 s, and once restarted it is within 5 s."""
    [alice] = await network.start("alice")
    [bob] = await network.start("bob", QKT_NODE_OUTBOUND_ONLY="true")
    async with asyncio.timeout(10.0):
        await alice.until_state(bob, "live")
    async with stopwatch.within(10.0, "kill -9 of an outbound-only host noticed"):
        await bob.kill()
        await alice.until_state(bob, "silent", "gone")
    async with stopwatch.within(5.0, "outbound-only host live again after its restart"):
        [bob] = await network.start("bob", QKT_NODE_OUTBOUND_ONLY="true")
        await alice.until_state(bob, "live")


async def test_mdns_tells_what_is_announced(network: Network) -> None:
    """Where a host says that it is dialed elsewhere, its own addresses are told to nobody."""
    [alice] = await network.start("alice")
    [bob] = await network.start("bob", QKT_NODE_ANNOUNCE="10.0.0.77:7999")
    async with asyncio.timeout(10.0):
        hint = await alice.until_logged("mdns_hint", peer=bob.peer[:8])
        await alice.until_state(bob, "live")
    assert hint["addresses"] == ["10.0.0.77:7999"]
