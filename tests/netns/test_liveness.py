"""What is noticed of a host that dies, stops, or comes back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.netns.nodes import Network
    from tests.netns.stopwatch import Stopwatch

NOT_LIVE = ("silent", "gone", "draining")


async def test_a_killed_host_is_noticed_and_welcome_again(network: Network, stopwatch: Stopwatch) -> None:
    """After kill -9 a peer is not live within 10 s, and once restarted it is again within 5 s."""
    alice, bob = await network.meet("alice", "bob")
    async with stopwatch.within(10.0, "kill -9 noticed"):
        await bob.kill()
        await alice.until_state(bob, *NOT_LIVE)
    async with stopwatch.within(5.0, "killed host live again after its restart"):
        [bob] = await network.start("bob")
        await asyncio.gather(alice.until_state(bob, "live"), bob.until_state(alice, "live"))


async def test_a_draining_host_is_noticed_and_welcome_again(network: Network, stopwatch: Stopwatch) -> None:
    """After SIGTERM a peer is not live within 1 s, ends with 0, and once restarted is live within 5 s."""
    alice, bob = await network.meet("alice", "bob")
    async with stopwatch.within(1.0, "drain noticed"):
        bob.terminate()
        await alice.until_state(bob, *NOT_LIVE)
    assert await bob.ended() == 0
    async with stopwatch.within(5.0, "drained host live again after its restart"):
        [bob] = await network.start("bob")
        await asyncio.gather(alice.until_state(bob, "live"), bob.until_state(alice, "live"))


@pytest.mark.parametrize("kind", ["pulled cable", "silent loss"])
async def test_a_partition_is_noticed_and_healed(network: Network, stopwatch: Stopwatch, kind: str) -> None:
    """Hosts cut off from each other are not live within 10 s on both sides, and live 10 s after the heal."""
    alice, bob = await network.meet("alice", "bob")
    async with stopwatch.within(10.0, f"partition ({kind}) noticed on both sides"):
        network.lan.unplug("bob") if kind == "pulled cable" else network.lan.block("bob")
        await asyncio.gather(alice.until_state(bob, *NOT_LIVE), bob.until_state(alice, *NOT_LIVE))
    async with stopwatch.within(10.0, f"live on both sides after the partition ({kind}) healed"):
        network.lan.plug_in("bob") if kind == "pulled cable" else network.lan.unblock("bob")
        await asyncio.gather(alice.until_state(bob, "live"), bob.until_state(alice, "live"))


async def test_a_query_survives_the_loss_of_a_teacher(network: Network, stopwatch: Stopwatch) -> None:
    """A query that loses one of two teachers to a partition while it probes ends with the other's lesson."""
    [alice, _, carol] = await network.meet("alice", "bob", "carol")
    steps, answer = [], {}
    async with stopwatch.within(40.0, "query that lost one of two teachers"):
        async for event in alice.query("2"):
            if event.get("step") == "probe" and "probe" not in steps:
                network.lan.block("carol")
            steps.append(event.get("step"))
            answer = event
    assert answer["error"] is None
    teachers = {teacher["name"]: teacher for teacher in answer["data"]["teachers"]}
    assert teachers["bob"]["used"]
    assert not teachers["carol"]["used"]
    assert answer["data"]["masks"][carol.peer] == {}
    assert teachers["carol"]["reason"]
