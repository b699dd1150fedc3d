"""Peers that nobody can dial, and addresses that are announced."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

from qkt_p2p.discovery import FoundBy, Membership, MemberState
from qkt_p2p.transport.client import PeerClient
from tests.discovery.town import PATIENT, Node, Town


def hide(town: Town, node: Node) -> None:
    """Put a node behind a wall: it answers, but at no address."""
    node.announced = ()
    town.network.serve(node.peer, node)


def line_to(town: Town, caller: Node, peer: Node) -> PeerClient:
    """Return what the peer's own connection to the caller amounts to."""
    return town.network.connect(caller.peer, peer.peer)


async def test_an_adopted_peer_is_asked(town: Town) -> None:
    """Whoever calls in and lends its connection is reached by queries, and never dialed."""
    anna, bert = town.node("anna"), town.node("bert")
    hide(town, anna)
    bert.serve()
    anna.contacts.start([bert.address])
    await town.until(lambda: anna.linked() == ["bert"])
    assert bert.linked() == []
    with bert.contacts.adopted(line_to(town, bert, anna)):
        assert bert.linked() == ["anna"]
        assert bert.found() == {"anna": FoundBy.INBOUND}
        assert await bert.gathered(5) == ["anna"]
        ((member, link),) = bert.contacts.reachable()
        assert (member.address, link.peer) == ("", anna.peer)
    assert town.count("bert", "dialed") == 0


async def test_a_query_waits_for_a_peer_that_is_about_to_attach(town: Town) -> None:
    """It says hello first, so for a moment it is live and there is no way to ask it."""
    anna, bert = town.node("anna"), town.node("bert")
    hide(town, anna)
    await bert.hello(anna.peer, anna.describe())
    gathering = asyncio.ensure_future(bert.gathered(1000))
    await asyncio.sleep(0)
    assert not gathering.done()
    with bert.contacts.adopted(line_to(town, bert, anna)):
        assert await gathering == ["anna"]


async def test_a_live_peer_that_does_not_attach_is_named(town: Town) -> None:
    """A query goes on without it after its patience, and can say why."""
    anna, bert = town.node("anna"), town.node("bert")
    hide(town, anna)
    await bert.hello(anna.peer, anna.describe())
    assert await bert.missed(0.01) == {"anna": "it cannot be dialed, and did not attach within 0.01 s"}


async def test_an_adopted_peer_that_was_not_heard_is_not_asked(town: Town) -> None:
    """A connection is no sign of life: only a hello and beats are."""
    anna, bert = town.node("anna"), town.node("bert")
    with bert.contacts.adopted(line_to(town, bert, anna)):
        assert bert.linked() == []
        assert await bert.gathered(5) == []


async def test_a_peer_that_restarts_is_told_again_who_calls(town: Town) -> None:
    """It cannot dial whoever only calls out, and has forgotten the greeting of before."""
    anna, bert = town.node("anna"), town.node("bert")
    hide(town, anna)
    bert.serve()
    anna.contacts.start([bert.address])
    await town.until(lambda: anna.linked() == ["bert"])
    bert.membership = Membership()
    await town.until(lambda: bert.found() == {"anna": FoundBy.INBOUND})
    assert town.count("anna", "dialed") == 1


async def test_a_peer_that_takes_its_connection_back_is_silent(town: Town) -> None:
    """It is noticed at once, and the peer is live again when it is heard again."""
    anna, bert = town.node("anna"), town.node("bert")
    await bert.hello(anna.peer, anna.describe())
    with bert.contacts.adopted(line_to(town, bert, anna)):
        pass
    assert [member.state for member in bert.membership.members()] == [MemberState.SILENT]
    assert bert.linked() == []
    await bert.hello(anna.peer, anna.describe())
    assert [member.state for member in bert.membership.members()] == [MemberState.LIVE]


async def test_the_latest_connection_counts(town: Town) -> None:
    """An older one that ends late takes nothing away."""
    anna, bert = town.node("anna"), town.node("bert")
    await bert.hello(anna.peer, anna.describe())
    older, newer = line_to(town, bert, anna), line_to(town, bert, anna)
    with ExitStack() as late:
        early = ExitStack()
        early.enter_context(bert.contacts.adopted(older))
        late.enter_context(bert.contacts.adopted(newer))
        early.close()
        assert [link for _, link in bert.contacts.reachable()] == [newer]


async def test_a_peer_that_can_be_dialed_is_asked_over_the_connection_to_it(town: Town) -> None:
    """A connection of the peer's own does not take the place of this node's."""
    anna, bert = town.node("anna"), town.node("bert")
    anna.serve()
    bert.contacts.start([anna.address])
    await town.until(lambda: bert.linked() == ["anna"])
    adopted = line_to(town, bert, anna)
    with bert.contacts.adopted(adopted):
        assert [link for _, link in bert.contacts.reachable()] != [adopted]
    assert bert.linked() == ["anna"]


async def test_a_query_does_not_wait_for_an_old_address_of_an_adopted_peer(town: Town) -> None:
    """Where a peer once was dialed says nothing while it lends its connection."""
    anna, bert = town.node("anna"), town.node("bert", PATIENT)
    await bert.hello(anna.peer, anna.describe())
    with bert.contacts.adopted(line_to(town, bert, anna)):
        assert await bert.gathered(1000) == ["anna"]


async def test_nobody_is_told_of_a_peer_that_cannot_be_dialed(town: Town) -> None:
    """Others could do nothing with it; it calls whom it wants to be asked by."""
    anna, bert, cleo = town.node("anna"), town.node("bert"), town.node("cleo")
    anna.announced = ()
    await bert.hello(anna.peer, anna.describe())
    with bert.contacts.adopted(line_to(town, bert, anna)):
        assert bert.linked() == ["anna"]
        assert bert.contacts.tell(cleo.peer) == []


async def test_a_peer_that_cannot_dial_back_learns_of_a_new_model(town: Town) -> None:
    """It hears of the caller by the caller's calls alone, so the caller introduces itself anew."""
    anna, bert = town.node("anna"), town.node("bert")
    hide(town, anna)
    bert.serve()
    anna.contacts.start([bert.address])
    await town.until(lambda: anna.linked() == ["bert"])
    anna.version = 7
    await town.until(lambda: bert.membership.known_version(anna.peer) == 7)
    await town.until(lambda: town.count("bert", "beat") > 20)
    assert town.count("bert", "greeted by", "anna") == 2


async def test_announced_addresses_are_told(town: Town) -> None:
    """Others hear where a peer answered, and then where it says that it can be dialed."""
    anna, bert, cleo = town.node("anna"), town.node("bert"), town.node("cleo")
    bert.serve()
    bert.announced = ("gateway.example:7447",)
    anna.contacts.start([bert.address])
    await town.until(lambda: anna.linked() == ["bert"])
    (told,) = anna.contacts.tell(cleo.peer)
    assert told.addresses == (bert.address, "gateway.example:7447")


async def test_an_announced_address_is_dialed(town: Town) -> None:
    """A peer that was found at one address and moves is looked for at the other that it told."""
    anna, bert = town.node("anna"), town.node("bert")
    bert.serve()
    bert.announced = ("gateway.example:7447",)
    anna.contacts.start([bert.address])
    await town.until(lambda: anna.linked() == ["bert"])
    bert.vanish()
    await town.until(lambda: anna.linked() == [])
    del town.addresses[bert.address]
    town.addresses["gateway.example:7447"] = bert.peer
    town.network.serve(bert.peer, bert)
    await town.until(lambda: anna.linked() == ["bert"])
    ((member, _),) = anna.contacts.reachable()
    assert member.address == "gateway.example:7447"
