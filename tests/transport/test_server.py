"""The listening side: ports, askers that do not read, and an orderly end."""

from __future__ import annotations

import asyncio

import pytest

from qkt_p2p.errors import ConfigError, PeerError, PeerUnavailableError
from qkt_p2p.identity.standing import Standing
from qkt_p2p.identity.trust import Identity
from qkt_p2p.transport.client import PeerClient
from qkt_p2p.transport.server import PeerServer
from qkt_p2p.transport.tls import TlsLine
from qkt_p2p.types import Chunk
from tests.transport.members import ASKER_NODE, OFFER, TEACH, TEACHER_NODE, Teacher

Served = tuple[PeerServer, int]
Members = tuple[Identity, Identity, Identity]


def client(members: Members, port: int) -> PeerClient:
    peer = members[1].peer_id
    return PeerClient(peer, TlsLine(peer, f"127.0.0.1:{port}", members[0]))


async def test_a_port_in_use_is_a_mistake_in_the_configuration(
    members: Members, served: Served, teacher: Teacher
) -> None:
    """The owner is told which line of node.toml to change."""
    second = PeerServer(teacher, Standing(members[2]))
    with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{served[1]}") as caught:
        await second.start(f"127.0.0.1:{served[1]}")
    assert "listen" in caught.value.fix
    await second.stop(0)


@pytest.mark.parametrize("listen", ["203.0.113.7:0", "nowhere.invalid:1"])
async def test_an_address_of_another_machine_is_a_mistake_in_the_configuration(
    members: Members, teacher: Teacher, listen: str
) -> None:
    """A node listens on addresses of its own."""
    server = PeerServer(teacher, Standing(members[2]))
    with pytest.raises(ConfigError, match=f"cannot listen on {listen}"):
        await server.start(listen)
    await server.stop(0)


async def test_a_stopping_server_finishes_what_runs(
    members: Members, served: Served, teacher: Teacher
) -> None:
    """A call that began is answered, one that begins meanwhile is not."""
    server, port = served
    running, late = client(members, port), client(members, port)
    teacher.busy = True
    calling = asyncio.ensure_future(running.hello(ASKER_NODE))
    await teacher.began.wait()
    stopping = asyncio.ensure_future(server.stop(60))
    with pytest.raises(PeerError):
        await late.hello(ASKER_NODE)
    teacher.release.set()
    assert await calling == TEACHER_NODE
    await stopping
    await running.close()
    await late.close()


async def test_a_stopping_server_waits_no_longer_than_its_grace(
    members: Members, served: Served, teacher: Teacher
) -> None:
    """A call that does not end is ended, on both sides."""
    asking = client(members, served[1])
    teacher.busy = True
    calling = asyncio.ensure_future(asking.hello(ASKER_NODE))
    await teacher.began.wait()
    await served[0].stop(0.05)
    with pytest.raises(PeerUnavailableError):
        await calling
    async with asyncio.timeout(5):
        await teacher.ended.wait()
    await asking.close()


async def test_a_server_that_stops_in_peace_lets_calls_end(members: Members, teacher: Teacher) -> None:
    """Draining waits for the answer, not for the whole of its patience; stopping again does nothing."""
    server = PeerServer(teacher, Standing(members[1]))
    asking = client(members, await server.start("127.0.0.1:0"))
    assert await asking.hello(ASKER_NODE) == TEACHER_NODE
    async with asyncio.timeout(5):
        await server.stop(60)
        await server.stop(60)
    await asking.close()


async def test_an_asker_that_takes_nothing_loses_its_stream(members: Members, teacher: Teacher) -> None:
    """Nobody can hold a place among those who are taught without reading."""
    teacher.response = [OFFER, *(Chunk(0, bytes(1024 * 1024)) for _ in range(40))]
    server = PeerServer(teacher, Standing(members[1]), stall_seconds=0.1)
    asking = client(members, await server.start("127.0.0.1:0"))
    parts = asking.teach(TEACH)
    assert await anext(parts) == OFFER
    async with asyncio.timeout(5):
        await teacher.ended.wait()
    with pytest.raises(PeerUnavailableError, match=r"nothing was taken for 0\.1 s"):
        async for _ in parts:
            pass
    await asking.close()
    await server.stop(0)
