"""One teacher, reached in memory and over mutual TLS, under the same tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from qkt_p2p.identity.authority import create_authority
from qkt_p2p.identity.trust import Identity
from qkt_p2p.transport.server import PeerServer
from tests.transport.members import Clients, MemoryWay, Teacher, TlsWay, Way, join

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
    server = PeerServer(teacher, members[1])
    port = await server.start("127.0.0.1:0")
    yield server, port
    await server.stop(0)


@pytest.fixture(params=["memory", "tls"])
def way(request: pytest.FixtureRequest, teacher: Teacher, members: tuple[Identity, ...]) -> Way:
    if request.param == "memory":
        return MemoryWay(teacher)
    server, port = request.getfixturevalue("served")
    return TlsWay(server, members[0], members[1], port=port)


@pytest.fixture
async def connect(way: Way) -> AsyncIterator[Clients]:
    clients = Clients(way)
    yield clients
    for client in clients.made:
        await client.close()
