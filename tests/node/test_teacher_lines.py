"""A query asks over whatever connection is open, and pays for what it asks alone."""

from __future__ import annotations

from contextlib import aclosing

import pytest

from qkt_node.teacher_lines import TeacherLine
from qkt_p2p.errors import PeerUnavailableError
from qkt_p2p.transport.client import PeerClient
from qkt_p2p.transport.memory import MemoryNetwork
from qkt_p2p.types import PeerId
from tests.transport.members import PROBE, REPORT, RESPONSE, TEACH, Teacher

ASKER, TEACHER = PeerId("a" * 52), PeerId("t" * 52)


class Contacts:
    """Gives a new connection for each call; `waits` are the seconds that were waited for them."""

    def __init__(self, network: MemoryNetwork) -> None:
        self.network = network
        self.made: list[PeerClient] = []
        self.waits: list[float] = []
        self.heard: list[PeerId] = []

    async def again(self, peer: PeerId, seconds: float) -> PeerClient:
        self.waits.append(seconds)
        self.made.append(self.network.connect(ASKER, peer))
        return self.made[-1]


@pytest.fixture
def contacts() -> Contacts:
    network = MemoryNetwork()
    network.serve(TEACHER, Teacher())
    return Contacts(network)


async def test_each_call_goes_over_a_connection_that_is_open(contacts: Contacts) -> None:
    """What is counted is the sum over all of them."""
    line = TeacherLine(TEACHER, contacts.again, contacts.heard.append)
    assert await line.probe(PROBE) == REPORT
    async with aclosing(line.teach(TEACH)) as parts:
        assert tuple([part async for part in parts]) == RESPONSE
    assert contacts.heard == [TEACHER] * len(RESPONSE)
    assert len(contacts.made) == 2
    assert all(seconds > 0 for seconds in contacts.waits)
    assert line.bytes_sent == sum(client.bytes_sent for client in contacts.made) > 0
    assert line.bytes_received == sum(client.bytes_received for client in contacts.made) > 0


async def test_a_call_that_breaks_is_paid_for(contacts: Contacts) -> None:
    """Bytes of a stream that was closed count as well; the next call has another connection."""
    line = TeacherLine(TEACHER, contacts.again, contacts.heard.append)
    async with aclosing(line.teach(TEACH)) as parts:
        await anext(parts)
    received = line.bytes_received
    assert 0 < received == contacts.made[0].bytes_received
    contacts.network.remove(TEACHER)
    with pytest.raises(PeerUnavailableError):
        await line.probe(PROBE)
    contacts.network.serve(TEACHER, Teacher())
    assert await line.probe(PROBE) == REPORT
    assert line.bytes_received > received
