"""What the soak counts, it counts when nothing of the queries before is under way any more."""

from __future__ import annotations

import asyncio

import pytest

from qkt_node.cluster.chaos.lies import LyingHandler
from qkt_p2p.errors import PeerUnavailableError
from qkt_p2p.transport.client import PeerClient
from qkt_p2p.transport.dialer import MemberLine
from qkt_p2p.types import PeerId, ProbeReport, ProbeRequest
from tests.faults.arena import Arena
from tests.faults.bank import BankTeacher
from tests.transport.members import PROBE


class Lingering(BankTeacher):
    """Has something left to do when its caller is gone."""

    def __init__(self) -> None:
        super().__init__({})
        self.left, self.may_end = asyncio.Event(), asyncio.Event()

    async def probe(self, caller: PeerId, request: ProbeRequest) -> ProbeReport:
        self.began.set()
        try:
            return await asyncio.Future()
        finally:
            self.left.set()
            await self.may_end.wait()
            self.ended.set()


async def test_a_call_that_outlives_its_way_is_waited_for(arena: Arena) -> None:
    """No connection is left, but the teacher still answers: that is not quiet."""
    host, teacher = arena.hosts["second"], Lingering()
    host.handler = LyingHandler(teacher)
    await host.stop()
    await host.start()
    peer = arena.members.identities["second"].peer_id
    link = PeerClient(peer, MemberLine(peer, host.proxy.address, arena.standing))
    probing = asyncio.create_task(link.probe(PROBE))
    await teacher.began.wait()
    host.proxy.reset()
    await host.proxy.quiet()
    await teacher.left.wait()
    quieting = asyncio.create_task(arena.quiet())
    await asyncio.wait({quieting}, timeout=0.1)
    assert not quieting.done()
    teacher.may_end.set()
    await quieting
    assert teacher.ended.is_set()
    with pytest.raises(PeerUnavailableError):
        await probing
    await link.close()
