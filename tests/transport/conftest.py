"""One teacher, reached in memory, over mutual TLS, and over a connection of its own, under the same tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest

from qkt_p2p.identity.authority import create_authority
from qkt_p2p.identity.standing import Standing
from qkt_p2p.identity.trust import Identity
from qkt_p2p.transport.answers import Answers
from qkt_p2p.transport.attach import AttachedLine
from qkt_p2p.transport.client import Line, PeerClient
from qkt_p2p.transport.server import PeerServer
from qkt_p2p.transport.tls import TlsLine
from qkt_p2p.types import PeerId
from tests.transport.members import (
    TEACHER_NODE,
    Clients,
    MemoryWay,
    ReverseWay,
    Teacher,
    TlsWay,
    Way,
    join,
)

FEDERATION = "hospitals.example"


@pytest.fixture(scope="session")
def members(tmp_path_factory: pytest.TempPathFactory) -> tuple[Identity, Identity, Identity]:
    """Three members of one federation."""
    authority = create_authority(FEDERATION)
    first, second, third = (join(authority, tmp_path_factory.mktemp("member")) for _ in range(3))
    return first, second, third


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    """A member of another federation, which only borrowed the name."""
    return join(create_authority(FEDERATION), tmp_path_factory.mktemp("stranger"))


@pytest.fixture
def teacher() -> Teacher:
    return Teacher()


@pytest.fixture
async def served(teacher: Teacher, members: tuple[Identity, ...]) -> AsyncIterator[tuple[PeerServer, int]]:
    """The teacher behind a real server, and its port."""
    server = PeerServer(teacher, Standing(members[1]))
    port = await server.start("127.0.0.1:0")
    yield server, port
    await server.stop(0)


@pytest.fixture
async def attached(teacher: Teacher, members: tuple[Identity, ...]) -> AsyncIterator[ReverseWay]:
    """The teacher as a node that dials the asker and cannot be dialed."""
    asker, own = members[0], members[1]
    adopted: asyncio.Future[Line] = asyncio.get_running_loop().create_future()

    @contextmanager
    def adopt(peer: PeerId, line: Line) -> Iterator[None]:
        assert peer == own.peer_id
        adopted.set_result(line)
        yield

    server = PeerServer(Teacher(), Standing(asker), adopt=adopt)
    address = f"127.0.0.1:{await server.start('127.0.0.1:0')}"
    dialed = TlsLine(asker.peer_id, address, own)
    outbound = AttachedLine(
        asker.peer_id, dialed, Answers(teacher), authorize=lambda _peer, _path: None, grace=0
    )
    await PeerClient(asker.peer_id, outbound).hello(TEACHER_NODE)
    yield ReverseWay(await adopted, outbound, asker, teacher=own)
    await outbound.close()
    await server.stop(0)


@pytest.fixture(params=["memory", "tls", "reverse"])
def way(request: pytest.FixtureRequest, teacher: Teacher, members: tuple[Identity, ...]) -> Way:
    if request.param == "memory":
        return MemoryWay(teacher)
    if request.param == "reverse":
        found: ReverseWay = request.getfixturevalue("attached")
        return found
    server, port = request.getfixturevalue("served")
    return TlsWay(server, members[0], members[1], port=port)


@pytest.fixture
async def connect(way: Way) -> AsyncIterator[Clients]:
    clients = Clients(way)
    yield clients
    for client in clients.made:
        await client.close()
