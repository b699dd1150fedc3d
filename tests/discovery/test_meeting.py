"""A query that begins before this node has met anybody."""

from __future__ import annotations

import asyncio

from tests.discovery.town import PATIENT, Town


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
