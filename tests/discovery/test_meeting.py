"""A query that begins before this node has met anybody."""

from __future__ import annotations

import asyncio

from qkt_p2p.errors import NotTrustedError, PeerUnavailableError
from qkt_p2p.limits import MAX_FAILURE_CHARACTERS, MAX_FAILURES_TOLD
from tests.discovery.town import PATIENT, Node, Town


async def failures(node: Node) -> tuple[str, ...]:
    async with node.contacts.gathered(0) as found:
        return found.failures


async def test_whoever_is_needed_now_is_dialed_now(town: Town) -> None:
    """A bootstrap address that did not answer is dialed at once, not after its pause."""
    anna, bert = town.node("anna", PATIENT), town.node("bert")
    anna.contacts.start([bert.address])
    await town.until(lambda: town.count("anna", "identified", bert.address))
    bert.serve()
    await anna.contacts.meet(10.0)
    assert await anna.gathered(10.0) == ["bert"]


async def test_meeting_ends_where_nobody_comes(town: Town) -> None:
    """After its time; and at once where somebody is there already."""
    anna, bert = town.node("anna"), town.node("bert")
    anna.serve()
    await anna.contacts.meet(0.01)
    assert anna.linked() == []
    bert.serve()
    anna.contacts.start([bert.address])
    await town.until(lambda: anna.linked() == ["bert"])
    await anna.contacts.meet(0.0)


async def test_those_who_were_there_before_are_waited_for(town: Town) -> None:
    """A query that goes on after a restart wants its teachers back, not just anybody; at most for a time."""
    anna, bert, carl = town.node("anna"), town.node("bert"), town.node("carl")
    bert.serve()
    anna.contacts.start([bert.address, carl.address])
    await town.until(lambda: anna.linked() == ["bert"])
    await anna.contacts.meet(0.01, [bert.peer, carl.peer])
    assert anna.linked() == ["bert"]
    meeting = asyncio.ensure_future(anna.contacts.meet(1000.0, [bert.peer, carl.peer]))
    await asyncio.sleep(0)
    assert not meeting.done()
    carl.serve()
    await meeting
    assert await anna.gathered(10.0) == ["bert", "carl"]


async def test_why_an_address_does_not_answer_is_known(town: Town) -> None:
    """The latest reason of each, until somebody answers there."""
    anna, bert, carl = town.node("anna", PATIENT), town.node("bert"), town.node("carl")
    town.failures[bert.address] = NotTrustedError("bert:7448: certificate has expired")
    anna.contacts.start([bert.address, carl.address])
    await town.until(lambda: town.count("anna", "identified", carl.address))
    assert await failures(anna) == ("bert:7448: certificate has expired", "carl:7448: nobody is there")
    del town.failures[bert.address]
    bert.serve()
    await anna.contacts.meet(10.0)
    assert await failures(anna) == ("carl:7448: nobody is there",)


async def test_why_a_peer_does_not_take_this_node_is_known(town: Town) -> None:
    """One that was revoked, and that nobody told, learns it from those who do not greet it."""
    anna, bert = town.node("anna", PATIENT), town.node("bert")

    async def hello(*_: object) -> None:
        town.note("bert", "refused")
        raise NotTrustedError("peer anna is revoked")

    bert.hello = hello  # type: ignore[assignment, method-assign]
    bert.serve()
    anna.contacts.start([bert.address])
    await town.until(lambda: town.count("bert", "refused") and town.count("anna", "closed", bert.address))
    (told,) = await failures(anna)
    assert told.endswith("peer anna is revoked")
    assert bert.address in told


async def test_an_owner_is_told_a_few_short_reasons(town: Town) -> None:
    """However many addresses there are, and whatever is said there."""
    anna = town.node("anna", PATIENT)
    addresses = [f"host{number}:7448" for number in range(MAX_FAILURES_TOLD + 2)]
    for address in addresses:
        town.failures[address] = PeerUnavailableError(f"{address}: {'no ' * MAX_FAILURE_CHARACTERS}")
    anna.contacts.start(addresses)
    await town.until(lambda: town.count("anna", "identified", addresses[-1]))
    told = await failures(anna)
    assert [len(each) for each in told] == [MAX_FAILURE_CHARACTERS] * MAX_FAILURES_TOLD
