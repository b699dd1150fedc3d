"""What a node knows of its peers, on a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from qkt_p2p.discovery import FoundBy, Member, Membership, MemberState
from qkt_p2p.limits import GONE_AFTER_SECONDS, MAX_PEERS, SILENT_AFTER_SECONDS
from qkt_p2p.types import NodeDescription, PeerId
from tests.clock import Clock
from tests.patience import patience

NODE = NodeDescription(1, "node", "1", (), (), (), 4)
PEER, OTHER = PeerId("a" * 52), PeerId("b" * 52)


@pytest.fixture
def clock() -> Clock:
    return Clock(1000.0)


@pytest.fixture
def membership(clock: Clock) -> Membership:
    return Membership(clock)


def introduce(membership: Membership, peer: PeerId = PEER, name: str = "node", address: str = "") -> None:
    node = replace(NODE, node_name=name)
    membership.introduce(peer, node, address=address, found_by=FoundBy.INBOUND)


def only(membership: Membership) -> Member:
    (member,) = membership.members()
    return member


@pytest.mark.parametrize(
    ("seconds", "state"),
    [
        (0.0, MemberState.LIVE),
        (SILENT_AFTER_SECONDS, MemberState.LIVE),
        (SILENT_AFTER_SECONDS + 0.1, MemberState.SILENT),
        (GONE_AFTER_SECONDS, MemberState.SILENT),
        (GONE_AFTER_SECONDS + 0.1, MemberState.GONE),
    ],
)
def test_silence_turns_into_absence(
    membership: Membership, clock: Clock, seconds: float, state: MemberState
) -> None:
    """The state follows from the time since a peer was last heard."""
    introduce(membership)
    clock.now += seconds
    assert only(membership).state is state
    assert only(membership).last_seen == pytest.approx(seconds)
    assert bool(membership.live()) is (state is MemberState.LIVE)


def test_a_beat_brings_a_peer_back(membership: Membership, clock: Clock) -> None:
    """Whoever is heard is live, however long it was gone."""
    introduce(membership)
    clock.now += GONE_AFTER_SECONDS + 1
    membership.hear(PEER, draining=False)
    assert only(membership).state is MemberState.LIVE


def test_whoever_sends_lives(membership: Membership, clock: Clock) -> None:
    """Parts of a response are signs of life, for its beats may be behind them; what a beat said stands."""
    introduce(membership)
    clock.now += GONE_AFTER_SECONDS + 1
    membership.hear(PEER)
    assert only(membership).state is MemberState.LIVE
    membership.hear(PEER, draining=True)
    membership.hear(PEER)
    assert only(membership).state is MemberState.DRAINING


def test_a_peer_that_drains_is_not_asked(membership: Membership, clock: Clock) -> None:
    """It says so itself, until it says otherwise or has gone."""
    introduce(membership)
    membership.hear(PEER, draining=True)
    assert only(membership).state is MemberState.DRAINING
    assert membership.live() == []
    clock.now += GONE_AFTER_SECONDS + 1
    assert only(membership).state is MemberState.GONE
    membership.hear(PEER, draining=False)
    assert only(membership).state is MemberState.LIVE


def test_a_broken_connection_is_silence_at_once(membership: Membership) -> None:
    """Nobody waits for missed beats when the line is known to be down."""
    introduce(membership)
    membership.lose(PEER)
    assert only(membership).state is MemberState.SILENT
    membership.hear(PEER, draining=False)
    assert only(membership).state is MemberState.LIVE
    membership.lose(PEER)
    introduce(membership)
    assert only(membership).state is MemberState.LIVE


def test_a_peer_that_was_never_introduced_is_no_member(membership: Membership) -> None:
    """A heartbeat alone says too little to be asked."""
    membership.hear(PEER, draining=False)
    membership.lose(PEER)
    assert membership.members() == []
    assert membership.known_version(PEER) is None


def test_a_second_hello_renews_what_is_known(membership: Membership) -> None:
    """The description is the newest, the address the last that worked, the origin the first."""
    membership.introduce(PEER, NODE, address="one:1", found_by=FoundBy.BOOTSTRAP)
    membership.hear(PEER, draining=False, round_trip=0.02)
    membership.introduce(PEER, replace(NODE, model_version=5), address="", found_by=FoundBy.INBOUND)
    membership.hear(PEER, draining=False)
    member = only(membership)
    assert (member.address, member.found_by, member.round_trip) == ("one:1", FoundBy.BOOTSTRAP, 0.02)
    assert membership.known_version(PEER) == member.description.model_version == 5
    membership.introduce(PEER, NODE, address="two:2", found_by=FoundBy.INBOUND)
    assert only(membership).address == "two:2"


def test_members_are_listed_by_name(membership: Membership) -> None:
    """People find them, and the order does not depend on who came first."""
    introduce(membership, OTHER, "b")
    introduce(membership, PEER, "b")
    introduce(membership, PeerId("c" * 52), "a")
    listed = [(member.description.node_name, member.peer[0]) for member in membership.members()]
    assert listed == [("a", "c"), ("b", "a"), ("b", "b")]


def test_the_longest_unheard_peer_makes_room(membership: Membership, clock: Clock) -> None:
    """However many members introduce themselves, the memory stays bounded and the living stay known."""
    peers = [PeerId(f"{number:052}") for number in range(MAX_PEERS + 1)]
    for peer in peers[:-1]:
        clock.now += 0.001
        introduce(membership, peer)
    membership.hear(peers[0], draining=False)
    clock.now += 0.001
    introduce(membership, peers[-1])
    known = {member.peer for member in membership.members()}
    assert known == set(peers) - {peers[1]}


async def test_who_waits_for_peers_is_woken_by_each_way_to_become_live(membership: Membership) -> None:
    """A new peer, one that was lost and one that drained all count as soon as they are heard."""
    introduce(membership, PEER)
    introduce(membership, OTHER)
    ways: list[Callable[[], None]] = [
        lambda: introduce(membership, PeerId("c" * 52)),
        lambda: membership.hear(PEER, draining=False),
        lambda: membership.hear(OTHER, draining=False),
    ]
    for become_live in ways:
        membership.lose(PEER)
        membership.hear(OTHER, draining=True)
        count = len(membership.live()) + 1
        waiting = [asyncio.ensure_future(membership.wait_for_live(count)) for _ in range(2)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        become_live()
        async with patience("the waiting end"):
            await asyncio.gather(*waiting)


async def test_a_peer_that_was_silent_wakes_who_waits(membership: Membership, clock: Clock) -> None:
    """Silence ends with a beat, though nobody noted that it had begun."""
    introduce(membership)
    clock.now += SILENT_AFTER_SECONDS + 1
    waiting = asyncio.ensure_future(membership.wait_for_live(1))
    await asyncio.sleep(0)
    membership.hear(PEER, draining=False)
    async with patience("the waiting ends"):
        await waiting


async def test_enough_live_peers_are_not_waited_for(membership: Membership) -> None:
    """With no peer wanted, or with those that are there, there is no wait."""
    await membership.wait_for_live(0)
    introduce(membership)
    await membership.wait_for_live(1)
