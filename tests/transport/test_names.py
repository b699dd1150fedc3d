"""Names are looked up where nothing else waits for it."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import threading
from asyncio import StreamReader
from collections.abc import AsyncIterator
from typing import Any

import pytest

from qkt_p2p.errors import PeerUnavailableError
from qkt_p2p.identity.trust import Identity
from qkt_p2p.transport.identify import identify
from qkt_p2p.transport.names import addresses_of, open_tls
from tests.patience import patience

Members = tuple[Identity, Identity, Identity]
MANY = 64


class DeadNameServer:
    """Answers for no name of "dead.example" before it is `back`."""

    def __init__(self) -> None:
        self.back = threading.Event()
        self.begun = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.asked: list[str] = []
        self._really = socket.getaddrinfo

    def getaddrinfo(self, host: Any, *rest: Any, **more: Any) -> Any:
        if not str(host).endswith("dead.example"):
            return self._really(host, *rest, **more)
        self.asked.append(host)
        self._loop.call_soon_threadsafe(self.begun.set)
        self.back.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


@pytest.fixture
async def dead(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[DeadNameServer]:
    server = DeadNameServer()
    monkeypatch.setattr(socket, "getaddrinfo", server.getaddrinfo)
    yield server
    server.back.set()


async def test_other_work_does_not_wait_for_names(members: Members, dead: DeadNameServer) -> None:
    """Any peer may tell some dozens of names that nobody answers for; disks are worked on all the same."""
    dials = [
        asyncio.create_task(identify(f"n{number}.dead.example:7447", members[0])) for number in range(MANY)
    ]
    async with patience("blocking work is done"):
        await dead.begun.wait()
        await asyncio.to_thread(lambda: None)
    for dial in dials:
        dial.cancel()
    await asyncio.gather(*dials, return_exceptions=True)
    dead.back.set()
    async with patience("names are looked up again"):
        assert await addresses_of("localhost")
    assert len(dead.asked) < MANY


async def test_a_name_that_is_not_answered_for_in_time_is_unavailable(
    members: Members, dead: DeadNameServer
) -> None:
    """The caller waits no longer than it says, whatever the name server does."""
    with pytest.raises(PeerUnavailableError, match=r"silent\.dead\.example:7447: no answer within 0\.05 s"):
        await identify("silent.dead.example:7447", members[0], seconds=0.05)


async def test_a_name_that_does_not_exist_is_unavailable(members: Members, dead: DeadNameServer) -> None:
    """The reason is the resolver's."""
    dead.back.set()
    with pytest.raises(PeerUnavailableError, match="Temporary failure in name resolution"):
        await identify("gone.dead.example:7447", members[0])


@pytest.mark.parametrize(
    ("failure", "tried"),
    [
        (OSError(errno.ENETUNREACH, "Network is unreachable"), ["2001:db8::1", "192.0.2.1"]),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), ["2001:db8::1", "192.0.2.1"]),
        (ssl.SSLError(1, "handshake failure"), ["2001:db8::1"]),
    ],
)
async def test_a_host_is_reached_at_whichever_of_its_addresses_it_can_be(
    monkeypatch: pytest.MonkeyPatch, failure: OSError, tried: list[str]
) -> None:
    """A host without IPv6 may be told such an address first; who answers, and refuses, is asked once."""
    asked: list[str] = []
    found: Any = (StreamReader(), None)

    async def open_connection(address: str, *_: Any, **__: Any) -> Any:
        asked.append(address)
        if address == "2001:db8::1":
            raise failure
        return found

    def getaddrinfo(*_: Any, **__: Any) -> Any:
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 0, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(asyncio, "open_connection", open_connection)
    opening = open_tls("both.example", 7447, ssl.create_default_context())
    if isinstance(failure, ssl.SSLError):
        with pytest.raises(ssl.SSLError):
            await opening
    else:
        assert await opening == found
    assert asked == tried


@pytest.mark.parametrize(("host", "address"), [("127.0.0.1", "127.0.0.1"), ("::1", "::1")])
async def test_an_address_is_its_own(dead: DeadNameServer, host: str, address: str) -> None:
    """Nobody is asked."""
    assert await addresses_of(host) == [address]
