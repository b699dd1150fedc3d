"""Hosts that were never told of each other."""

from __future__ import annotations

from tests.netns.nodes import Network
from tests.netns.stopwatch import Stopwatch


async def test_two_hosts_find_each_other_and_one_teaches_the_other(
    network: Network, stopwatch: Stopwatch
) -> None:
    """With nothing but join, hosts meet by mDNS in 5 s of the second's start and a query is answered."""
    [alice] = await network.start("alice")
    async with stopwatch.within(5.0, "first contact after the second host was started"):
        [bob] = await network.start("bob")
        await alice.until_state(bob, "live")
        await bob.until_state(alice, "live")
    assert {peer.found_by for peer in (await alice.peers()).values()} <= {"mdns", "inbound"}
    answers = [event async for event in alice.query("2")]
    assert answers[-1]["error"] is None
    assert answers[-1]["data"]["outcome"] == "accepted"
    assert [teacher["name"] for teacher in answers[-1]["data"]["teachers"] if teacher["used"]] == ["bob"]
