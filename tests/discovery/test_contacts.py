"""Nodes find each other, notice who leaves, and survive whatever answers."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from qkt_p2p.discovery import Conduct, FoundBy, MemberState
from qkt_p2p.errors import PEER_FAILURES, PeerUnavailableError, QktError
from qkt_p2p.limits import MAX_ADDRESSES, MAX_PEERS
from qkt_p2p.types import Heartbeat, PeerId
from tests.discovery.town import PATIENT, QUICK, Town, peer_id
from tests.patience import patience


async def test_a_bootstrap_address_becomes_a_connection(town: Town) -> None:
    """Both sides know each other after one of them was told an address."""
    anna, bert = town.node("anna"), town.node("bert")
    anna.serve()
    bert.serve()
    anna.contacts.start([bert.address])
    await town.until(lambda: anna.linked() == ["bert"] and bert.linked() == ["anna"])
    assert bert.found() == {"anna": FoundBy.INBOUND}
    ((member, link),) = anna.contacts.reachable()
    assert (member.address, link.peer) == (bert.address, bert.peer)


async def test_a_nodes_own_address_is_not_dialed(town: Town) -> None:
    """The same bootstrap list fits every node, the one that it names included."""
    anna, bert = town.node("anna"), town.node("bert")
    anna.serve()
    bert.serve()
    anna.contacts.start([anna.address, bert.address])
    anna.contacts.hint(anna.peer, [anna.address], FoundBy.EXCHANGE)
    await town.until(lambda: anna.linked() == ["bert"])
    assert town.count("anna", "identified", anna.address) == 1
    assert town.count("anna", "dialed", anna.address) == 0


async def test_an_address_is_tried_until_somebody_answers(town: Town) -> None:
    """Nodes may be started in any order."""
    anna, bert = town.node("anna"), town.node("bert")
    anna.contacts.start([bert.address])
    await town.until(lambda: town.count("anna", "identified") >= 5)
    bert.serve()
    await town.until(lambda: anna.linked() == ["bert"])


async def test_a_bootstrap_address_that_is_connected_is_left_alone(town: Town) -> None:
    """Its owner's log is not filled with handshakes."""
    anna, bert = town.node("anna"), town.node("bert")
    bert.serve()
    anna.contacts.start([bert.address])
    await town.until(lambda: anna.linked() == ["bert"])
    identified = town.count("anna", "identified")
    await town.until(lambda: town.count("bert", "beat") >= 20)
    assert town.count("anna", "identified") == identified


async def test_two_addresses_of_one_peer_are_one_connection(town: Town) -> None:
    """A peer is its key, not its address."""
    anna, bert = town.node("anna"), town.node("bert")
    bert.serve()
    town.addresses["alias:1"] = bert.peer
    anna.contacts.start([bert.address, "alias:1"])
    await town.until(lambda: town.count("anna", "identified") >= 2 and anna.linked() == ["bert"])
    await town.until(lambda: town.count("bert", "beat") >= 5)
    assert town.count("anna", "dialed") == 1


async def test_a_peer_that_goes_is_noticed_and_one_that_returns_is_found(town: Town) -> None:
    """A broken connection is silence at once, and dialed until it is whole."""
    anna, bert = town.node("anna"), town.node("bert")
    bert.serve()
    anna.contacts.start([bert.address])
    await town.until(lambda: anna.linked() == ["bert"])
    bert.vanish()
    await town.until(lambda: anna.linked() == [])
    assert [member.state for member in anna.membership.members()] == [MemberState.SILENT]
    dialed = town.count("anna", "dialed")
    await town.until(lambda: town.count("anna", "dialed") >= dialed + 12)
    bert.serve()
    await town.until(lambda: anna.linked() == ["bert"])
    assert anna.found() == {"bert": FoundBy.BOOTSTRAP}


@pytest.mark.parametrize("found_by", [FoundBy.INBOUND, FoundBy.BOOTSTRAP, FoundBy.MDNS])
async def test_a_sign_of_life_ends_the_pause(town: Town, found_by: FoundBy) -> None:
    """A peer that shows itself is dialed at once, at its new address first."""
    anna, bert = town.node("anna", PATIENT), town.node("bert")
    anna.contacts.hint(bert.peer, ["old:1"], FoundBy.INBOUND)
    await town.until(lambda: town.count("anna", "closed", "old:1"))
    bert.serve()
    anna.contacts.hint(bert.peer, [bert.address], found_by)
    await town.until(lambda: anna.linked() == ["bert"])
    assert town.count("anna", "dialed", "old:1") == 1


async def test_a_hint_during_an_attempt_is_not_lost(town: Town) -> None:
    """The pause that would follow is cut short too."""
    anna, bert = town.node("anna", PATIENT), town.node("bert")
    anna.contacts.hint(bert.peer, ["old:1"], FoundBy.INBOUND)
    await town.until(lambda: town.count("anna", "dialed", "old:1"))
    bert.serve()
    anna.contacts.hint(bert.peer, [bert.address], FoundBy.INBOUND)
    await town.until(lambda: anna.linked() == ["bert"])


async def test_hearsay_does_not_end_the_pause(town: Town) -> None:
    """A member that talks fast cannot make others dial fast; what it told is tried in due time, and last."""
    anna, bert = town.node("anna", PATIENT), town.node("bert")
    anna.contacts.hint(bert.peer, ["old:1"], FoundBy.INBOUND)
    await town.until(lambda: town.count("anna", "closed", "old:1"))
    for number in range(100):
        anna.contacts.hint(bert.peer, [f"heard:{number}"], FoundBy.EXCHANGE)
    bert.serve()
    await asyncio.sleep(0)
    assert town.count("anna", "dialed") == 1
    anna.contacts.hint(bert.peer, ["old:1"], FoundBy.INBOUND)
    await town.until(lambda: town.count("anna", "closed", f"heard:{MAX_ADDRESSES - 2}"))
    dialed = [what for who, did, what in town.events if (who, did) == ("anna", "dialed")]
    assert dialed == ["old:1", "old:1", *(f"heard:{number}" for number in range(MAX_ADDRESSES - 1))]


async def test_a_federation_finds_itself(town: Town) -> None:
    """One address that all know is enough for everybody to be connected to everybody."""
    names = ("anna", "bert", "cleo", "dora")
    nodes = [town.node(name) for name in names]
    for node in nodes:
        node.serve()
    for node in nodes[1:]:
        node.contacts.start([nodes[0].address])
    await town.until(lambda: all(len(node.linked()) == len(names) - 1 for node in nodes))


async def test_peers_of_peers_become_peers(town: Town) -> None:
    """A node that nobody can dial finds out about those that its peers know."""
    anna, bert, cleo = town.node("anna"), town.node("bert"), town.node("cleo")
    bert.serve()
    cleo.serve()
    bert.contacts.start([cleo.address])
    anna.contacts.start([bert.address])
    await town.until(lambda: anna.linked() == ["bert", "cleo"])
    assert anna.found()["cleo"] is FoundBy.EXCHANGE


async def test_a_peer_is_not_told_of_itself(town: Town) -> None:
    """An exchange names others alone."""
    anna, bert, cleo = town.node("anna"), town.node("bert"), town.node("cleo")
    for node in (bert, cleo):
        node.serve()
    anna.contacts.start([bert.address, cleo.address])
    await town.until(lambda: town.count("bert", "told of") >= 3 and town.count("cleo", "told of") >= 3)
    assert town.count("bert", "told of", bert.peer) == town.count("cleo", "told of", cleo.peer) == 0


async def test_a_new_model_is_introduced(town: Town) -> None:
    """A change of the version in a beat makes the other side say hello again."""
    anna, bert = town.node("anna"), town.node("bert")
    bert.serve()
    anna.contacts.start([bert.address])
    await town.until(lambda: anna.linked() == ["bert"])
    bert.version = 7
    await town.until(lambda: anna.membership.known_version(bert.peer) == 7)
    await town.until(lambda: town.count("bert", "beat") > 20)
    assert town.count("bert", "greeted by", "anna") == 2


async def test_an_address_that_changed_is_introduced(town: Town) -> None:
    """The peer is told where the caller is by now, and dials it there."""
    anna, bert = town.node("anna"), town.node("bert", PATIENT)
    anna.serve()
    bert.serve()
    anna.announced = ("127.0.0.1:7448",)
    anna.contacts.start([bert.address])
    await town.until(lambda: town.count("bert", "dialed", "127.0.0.1:7448"))
    anna.announced = (anna.address,)
    await town.until(lambda: bert.linked() == ["anna"])
    assert town.count("bert", "greeted by", "anna") == 2


async def test_another_network_ends_pauses(town: Town) -> None:
    """Whoever did not answer is dialed at once, at bootstrap addresses and at others."""
    anna, bert, cleo = town.node("anna", PATIENT), town.node("bert"), town.node("cleo")
    anna.contacts.start([bert.address])
    anna.contacts.hint(cleo.peer, [cleo.address], FoundBy.MDNS)
    await town.until(
        lambda: town.count("anna", "identified", bert.address) and town.count("anna", "dialed", cleo.address)
    )
    bert.serve()
    cleo.serve()
    anna.contacts.hasten()
    await town.until(lambda: anna.linked() == ["bert", "cleo"])


async def test_a_node_that_drains_says_goodbye(town: Town) -> None:
    """Its peers stop asking at once instead of after missed beats."""
    anna, bert = town.node("anna"), town.node("bert")
    bert.serve()
    anna.contacts.start([bert.address])
    await town.until(lambda: anna.linked() == ["bert"])
    anna.draining = True
    await anna.contacts.stop()
    assert [member.state for member in bert.membership.members()] == [MemberState.DRAINING]
    assert town.count("bert", "draining peer", anna.peer) >= 1


async def test_a_goodbye_to_nobody_is_no_failure(town: Town) -> None:
    """A node whose peers are gone stops all the same."""
    anna, bert = town.node("anna", replace(QUICK, heartbeat=1000.0)), town.node("bert")
    bert.serve()
    anna.contacts.start([bert.address])
    await town.until(lambda: town.count("bert", "beat"))
    bert.vanish()
    anna.draining = True
    await anna.contacts.stop()
    assert town.count("anna", "closed", bert.address) == 1


async def test_stopping_closes_every_connection_and_takes_no_more_hints(town: Town) -> None:
    """Stopping is final and may be repeated."""
    anna, bert = town.node("anna"), town.node("bert")
    bert.serve()
    anna.contacts.start([bert.address])
    await town.until(lambda: anna.linked() == ["bert"])
    await anna.contacts.stop()
    await anna.contacts.stop()
    assert anna.linked() == []
    assert town.count("anna", "closed") == town.count("anna", "dialed") == 1
    anna.contacts.hint(bert.peer, [bert.address], FoundBy.INBOUND)
    await asyncio.sleep(0)
    assert town.count("anna", "dialed") == 1


@pytest.mark.parametrize("kind", PEER_FAILURES)
async def test_whatever_a_peer_answers_it_is_tried_again(town: Town, kind: type[QktError]) -> None:
    """A refusal, a distrust and a nonsensical status are all only failures to connect."""
    anna, bert = town.node("anna"), town.node("bert")
    town.failures[bert.address] = kind("no")
    bert.serve()
    anna.contacts.start([bert.address])
    anna.contacts.hint(bert.peer, [bert.address], FoundBy.MDNS)
    await town.until(lambda: town.count("anna", "identified") >= 3 and town.count("anna", "dialed") >= 3)
    town.failures.clear()
    await town.until(lambda: anna.linked() == ["bert"])


async def test_a_task_that_fails_is_seen_and_the_others_go_on(town: Town) -> None:
    """A mistake in this program stops one contact, is logged, and the next hint begins anew."""
    anna, bert, cleo = town.node("anna"), town.node("bert"), town.node("cleo")
    cleo.serve()
    town.failures[bert.address] = ZeroDivisionError("a mistake")
    with capture_logs() as logs:
        anna.contacts.start([bert.address, cleo.address])
        anna.contacts.hint(bert.peer, [bert.address], FoundBy.MDNS)
        await town.until(lambda: anna.linked() == ["cleo"])
    failed = [entry["task"] for entry in logs if entry["event"] == "contact_task_failed"]
    assert sorted(failed) == [f"bootstrap {bert.address}", "peer bertaaaa"]
    town.failures.clear()
    bert.serve()
    anna.contacts.hint(bert.peer, [bert.address], FoundBy.MDNS)
    await town.until(lambda: anna.linked() == ["bert", "cleo"])


async def test_strangers_that_never_answer_are_forgotten(town: Town) -> None:
    """Hearsay of peers that do not exist costs some attempts and no more."""
    anna, bert = town.node("anna", replace(QUICK, rounds_for_strangers=3)), town.node("bert")
    anna.contacts.hint(bert.peer, [bert.address], FoundBy.EXCHANGE)
    async with patience("nobody is followed any more"):
        await asyncio.gather(*followers(), return_exceptions=True)
    assert town.count("anna", "dialed") == 3
    bert.serve()
    anna.contacts.hint(bert.peer, [bert.address], FoundBy.EXCHANGE)
    await town.until(lambda: anna.linked() == ["bert"])


async def test_the_number_of_contacts_is_capped(town: Town) -> None:
    """However many peers are told, this node follows a bounded number."""
    anna = town.node("anna", PATIENT)
    for number in range(MAX_PEERS + 10):
        anna.contacts.hint(PeerId(f"{number:052}"), [f"{number}:1"], FoundBy.EXCHANGE)
    assert len(followers()) == MAX_PEERS


def followers() -> list[asyncio.Task[object]]:
    """Return the tasks that follow one peer each."""
    return [task for task in asyncio.all_tasks() if task.get_name().startswith("peer ")]


async def test_a_peer_that_names_many_addresses_is_tried_at_some(town: Town) -> None:
    """The address that answered goes first the next time."""
    anna, bert = town.node("anna"), town.node("bert")
    anna.contacts.hint(bert.peer, [f"dead:{number}" for number in range(20)], FoundBy.INBOUND)
    await town.until(lambda: town.count("anna", "dialed", f"dead:{MAX_ADDRESSES - 1}"))
    bert.serve()
    anna.contacts.hint(bert.peer, [bert.address], FoundBy.INBOUND)
    await town.until(lambda: anna.linked() == ["bert"])
    anna.contacts.hint(bert.peer, [f"newer:{number}" for number in range(3)], FoundBy.EXCHANGE)
    bert.vanish()
    await town.until(lambda: anna.linked() == [])
    seen = len(town.events)
    await town.until(lambda: any(did == "dialed" for _, did, _ in town.events[seen:]))
    after = [what for _, did, what in town.events if did == "dialed"]
    assert after.count(bert.address) >= 1
    assert f"dead:{MAX_ADDRESSES}" not in after


async def test_a_hint_without_addresses_is_none(town: Town) -> None:
    """A peer behind a wall tells no address, and is not followed."""
    anna = town.node("anna")
    anna.contacts.hint(peer_id("bert"), [], FoundBy.INBOUND)
    assert followers() == []


async def test_a_query_waits_for_peers_that_are_being_dialed(town: Town) -> None:
    """A peer that has just said hello is dialed back before anybody counts who can be asked."""
    anna, bert = town.node("anna"), town.node("bert")
    bert.serve()
    assert await anna.gathered(5) == []
    await anna.hello(bert.peer, bert.describe())
    assert anna.linked() == []
    assert await anna.gathered(5) == ["bert"]


async def test_a_query_does_not_wait_for_a_peer_that_cannot_be_dialed(town: Town) -> None:
    """One that only calls in costs one attempt, not the whole patience of every query."""
    anna, bert = town.node("anna", PATIENT), town.node("bert")
    await anna.hello(bert.peer, bert.describe())
    async with patience("nobody is gathered"):
        assert await anna.gathered(1000) == []
        (reason,) = (await anna.missed(1000)).values()
    assert reason.endswith("nobody serves here")
    assert anna.found() == {"bert": FoundBy.INBOUND}


async def test_a_query_dials_a_live_peer_that_was_forgotten(town: Town) -> None:
    """Whoever did not answer for a while, but calls, may be dialed by now."""
    anna, bert = town.node("anna"), town.node("bert")
    await anna.hello(bert.peer, bert.describe())
    await town.until(lambda: town.count("anna", "dialed", bert.address) == QUICK.rounds_for_strangers)
    async with patience("nobody is followed any more"):
        await asyncio.gather(*followers(), return_exceptions=True)
    bert.serve()
    assert await anna.gathered(1000) == ["bert"]


async def test_waiting_for_peers_ends(town: Town) -> None:
    """A peer that neither answers nor fails is waited for no longer than asked."""
    anna, bert = town.node("anna"), town.node("bert")

    async def hello(*_: object) -> None:
        town.note("bert", "hung")
        await asyncio.Event().wait()

    bert.hello = hello  # type: ignore[assignment, method-assign]
    bert.serve()
    await anna.hello(bert.peer, bert.describe())
    await town.until(lambda: town.count("bert", "hung"))
    assert await anna.gathered(0.01) == []
    assert await anna.missed(0.01) == {"bert": "not connected within 0.01 s"}


async def test_a_query_finds_a_peer_again_that_was_lost(town: Town) -> None:
    """While it runs, a peer that comes back is dialed, and the query is given the new connection."""
    anna, bert = town.node("anna"), town.node("bert")
    bert.serve()
    await anna.hello(bert.peer, bert.describe())
    async with anna.contacts.gathered(5) as found:
        first = await found.again(bert.peer, 5)
        assert first is found.reached[0][1]
        bert.vanish()
        await town.until(lambda: anna.linked() == [])
        coming = asyncio.ensure_future(found.again(bert.peer, 1000))
        bert.serve()
        second = await coming
        assert second is not first
        await second.heartbeat(Heartbeat(draining=False, model_version=1))


async def test_a_lost_peer_is_not_waited_for_without_end(town: Town) -> None:
    """The reason is why it could not be dialed."""
    anna, bert = town.node("anna"), town.node("bert")
    bert.serve()
    await anna.hello(bert.peer, bert.describe())
    async with anna.contacts.gathered(5) as found:
        bert.vanish()
        await town.until(lambda: anna.linked() == [])
        with pytest.raises(PeerUnavailableError, match=r"nobody serves here|connection was closed"):
            await found.again(bert.peer, 0.05)
        with pytest.raises(PeerUnavailableError, match="did not attach within"):
            await found.again(peer_id("carl"), 0.01)


async def test_peers_that_are_left_alone_are_named(town: Town) -> None:
    """A query that lacks them can say so."""
    anna, bert = town.node("anna"), town.node("bert")
    bert.serve()
    await anna.hello(bert.peer, bert.describe())
    assert await anna.gathered(5) == ["bert"]
    anna.contacts.judge(bert.peer, Conduct.BROKE_PROTOCOL)
    assert await anna.gathered(5) == []
    assert "left alone for a while" in (await anna.missed(5))["bert"]
