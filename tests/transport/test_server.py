"""The listening side: ports, askers that do not read, and an orderly end."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from qkt_p2p.errors import ConfigError, PeerBusyError, PeerError, PeerUnavailableError
from qkt_p2p.identity.standing import Standing
from qkt_p2p.identity.trust import Identity
from qkt_p2p.transport import authorization, credentials, guard
from qkt_p2p.transport.client import PeerClient
from qkt_p2p.transport.methods import HELLO
from qkt_p2p.transport.server import PeerServer
from qkt_p2p.transport.tls import TlsLine
from qkt_p2p.types import Chunk
from tests.patience import PATIENCE_SECONDS, patience
from tests.transport.members import ASKER_NODE, OFFER, TEACH, TEACHER_NODE, Teacher

Served = tuple[PeerServer, int]
Opened = grpc.aio.StreamUnaryCall[bytes, bytes]
Members = tuple[Identity, Identity, Identity]


def line(members: Members, port: int, caller: int = 0) -> TlsLine:
    return TlsLine(members[1].peer_id, f"127.0.0.1:{port}", members[caller])


def client(members: Members, port: int, caller: int = 0) -> PeerClient:
    return PeerClient(members[1].peer_id, line(members, port, caller))


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
    async with patience("the call ends at the teacher"):
        await teacher.ended.wait()
    await asking.close()


async def test_a_server_that_stops_in_peace_lets_calls_end(members: Members, teacher: Teacher) -> None:
    """Draining waits for the answer, not for the whole of its patience; stopping again does nothing."""
    server = PeerServer(teacher, Standing(members[1]))
    asking = client(members, await server.start("127.0.0.1:0"))
    assert await asking.hello(ASKER_NODE) == TEACHER_NODE
    async with patience("the server stops"):
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
    async with patience("the stream ends"):
        await teacher.ended.wait()
    with pytest.raises(PeerUnavailableError, match=r"next to nothing was taken for 0\.1 s"):
        async for _ in parts:
            pass
    await asking.close()
    await server.stop(0)


def opened(line: TlsLine) -> Opened:
    """Return a call whose request never comes."""
    call: Opened = line.channel.stream_unary(HELLO.path)()
    return call


async def test_one_peer_cannot_take_up_all_calls(
    members: Members, served: Served, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls that are opened and left open count as their caller's; others are answered meanwhile."""
    monkeypatch.setattr(authorization, "MAX_CALLS_OF_PEER", 4)
    flooding, modest = line(members, served[1]), client(members, served[1], caller=2)
    calls = [opened(flooding) for _ in range(5)]
    codes = [asyncio.ensure_future(call.code()) for call in calls]
    # Whichever of them came last: once it is refused, the other four are counted, and stay.
    ended, _ = await asyncio.wait(codes, timeout=PATIENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    assert [code.result() for code in ended] == [grpc.StatusCode.RESOURCE_EXHAUSTED]
    with pytest.raises(PeerBusyError, match="4 calls of this peer run already") as caught:
        await PeerClient(members[1].peer_id, flooding).hello(ASKER_NODE)
    assert caught.value.retry_after == 1
    assert await modest.hello(ASKER_NODE) == TEACHER_NODE
    for call in calls:
        call.cancel()
    await asyncio.wait(codes)
    await modest.close()
    await flooding.close()


async def test_a_request_that_does_not_come_is_not_waited_for(
    members: Members, served: Served, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that is opened and left open ends by itself; one that ends without a request is refused."""
    raw = line(members, served[1])
    for end, seconds, status in (
        (False, 0.05, grpc.StatusCode.DEADLINE_EXCEEDED),
        (True, PATIENCE_SECONDS, grpc.StatusCode.INVALID_ARGUMENT),
    ):
        monkeypatch.setattr(guard, "REQUEST_SECONDS", seconds)
        call = opened(raw)
        if end:
            await call.done_writing()
        async with patience("the call is refused"):
            assert await call.code() is status
    assert teacher.callers == []
    await raw.close()


async def test_a_caller_that_does_not_say_who_it_is_is_let_go(
    members: Members, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection without a handshake holds nothing for long."""
    monkeypatch.setattr(credentials, "HANDSHAKE_SECONDS", 0.05)
    server = PeerServer(teacher, Standing(members[1]))
    reader, writer = await asyncio.open_connection("127.0.0.1", await server.start("127.0.0.1:0"))
    async with patience("the connection is closed"):
        assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    await server.stop(0)
