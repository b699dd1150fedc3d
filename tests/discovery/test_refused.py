"""Peers that are no longer members, and nodes that are another peer from one moment to the next."""

from __future__ import annotations

import asyncio

import pytest

from qkt_p2p.discovery import FoundBy, MemberState
from qkt_p2p.errors import NotTrustedError, PeerUnavailableError
from qkt_p2p.types import PeerAddress, PeerId
from tests.discovery.town import Node, Town, peer_id
from tests.patience import patience


async def pair(town: Town) -> tuple[Node, Node]:
    """Two nodes that are connected both ways."""
    anna, bert = town.node("anna"), town.node("bert")
    anna.serve()
    bert.serve()
    anna.contacts.start([bert.address])
    await town.until(lambda: anna.linked() == ["bert"] and bert.linked() == ["anna"])
    return anna, bert


def state(node: Node, peer: PeerId) -> MemberState:
    return next(member.state for member in node.membership.members() if member.peer == peer)


def refuse(node: Node, *peers: PeerId) -> None:
    node.membership.revoke(frozenset(peers))
    node.contacts.refuse(frozenset(peers))


async def test_a_revoked_peer_leaves_at_once(town: Town) -> None:
    """Its connection is closed, it is not live, and whatever is heard of it changes nothing."""
    anna, bert = await pair(town)
    refuse(anna, bert.peer)
    assert state(anna, bert.peer) is MemberState.REVOKED
    assert anna.membership.live() == []
    await town.until(lambda: town.count("anna", "closed", bert.address))
    dialed = town.count("anna", "dialed", bert.address)
    anna.contacts.hint(bert.peer, [bert.address], FoundBy.MDNS)
    anna.contacts.take([PeerAddress(bert.peer, (bert.address,), "bert")])
    anna.membership.hear(bert.peer, draining=False)
    beats = town.count("anna", "beat", bert.peer)
    await town.until(lambda: town.count("anna", "beat", bert.peer) >= beats + 3)
    assert state(anna, bert.peer) is MemberState.REVOKED
    assert town.count("anna", "dialed", bert.address) == dialed
    assert anna.linked() == []


async def test_a_query_does_not_wait_for_a_revoked_peer(town: Town) -> None:
    """It goes on with those who are left."""
    anna, bert = await pair(town)
    gathering = asyncio.ensure_future(anna.gathered(1000))
    refuse(anna, bert.peer)
    async with patience("the gathering ends"):
        await gathering
        assert await anna.gathered(1000) == []


async def test_a_teacher_that_is_revoked_meanwhile_is_not_waited_for(town: Town) -> None:
    """Its query is told at once that it is no member, rather than that it went away."""
    anna, bert = await pair(town)
    async with anna.contacts.gathered(5) as found:
        assert (await found.again(bert.peer, 5)).peer == bert.peer
        refuse(anna, bert.peer)
        async with patience("it is refused"):
            with pytest.raises(NotTrustedError, match=r"peer bert\w+ is revoked"):
                await found.again(bert.peer, 1000)


async def test_calls_that_run_to_a_revoked_peer_fail(town: Town) -> None:
    """A query that is being taught by it loses it as it loses one that vanished."""
    anna, bert = await pair(town)
    ((_, link),) = anna.contacts.reachable()
    refuse(anna, bert.peer)
    await town.until(lambda: town.count("anna", "closed", bert.address))
    with pytest.raises(PeerUnavailableError):
        await link.hello(anna.describe())


async def test_a_peer_that_is_a_member_again_is_met_again(town: Town) -> None:
    """A list may take back what concerned one certificate alone."""
    anna, bert = await pair(town)
    refuse(anna, bert.peer)
    await town.until(lambda: town.count("anna", "closed", bert.address))
    refuse(anna)
    anna.contacts.hint(bert.peer, [bert.address], FoundBy.MDNS)
    await town.until(lambda: anna.linked() == ["bert"])


async def test_a_new_certificate_means_new_connections(town: Town) -> None:
    """The old ones end without a goodbye, and peers stay live meanwhile."""
    anna, bert = await pair(town)
    anna.contacts.become(anna.peer)
    await town.until(lambda: town.count("anna", "dialed", bert.address) == 2 and anna.linked() == ["bert"])
    assert town.count("anna", "closed", bert.address) == 1
    assert town.count("bert", "draining peer") == 0
    assert state(anna, bert.peer) is MemberState.LIVE


async def test_a_new_key_means_a_goodbye_and_a_new_acquaintance(town: Town) -> None:
    """Peers hear that the old peer leaves, and the new one says hello."""
    anna, bert = await pair(town)
    anna.contacts.become(peer_id("annanew"))
    await town.until(lambda: town.count("bert", "draining peer", anna.peer))
    await town.until(lambda: town.count("anna", "dialed", bert.address) == 2)
    await town.until(lambda: anna.linked() == ["bert"])
    anna.contacts.hint(peer_id("annanew"), [anna.address], FoundBy.EXCHANGE)
    assert town.count("anna", "dialed", anna.address) == 0


async def test_connections_of_a_query_outlast_a_change(town: Town) -> None:
    """They are made anew once the query ends."""
    anna, bert = await pair(town)
    async with anna.contacts.gathered(0):
        anna.contacts.become(peer_id("annanew"))
        beats = town.count("bert", "beat", anna.peer)
        await town.until(lambda: town.count("bert", "beat", anna.peer) >= beats + 5)
        assert town.count("anna", "dialed", bert.address) == 1
    await town.until(lambda: town.count("anna", "dialed", bert.address) == 2)


async def test_a_change_while_nobody_answers_is_no_obstacle(town: Town) -> None:
    """Whoever is away at that moment is met later, under the new certificate."""
    anna, bert = await pair(town)
    bert.vanish()
    anna.contacts.become(peer_id("annanew"))
    await town.until(lambda: anna.linked() == [])
    bert.serve()
    await town.until(lambda: anna.linked() == ["bert"])
