"""Who may call whom: every connection that is not between two members, each as itself, fails."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from qkt_p2p.errors import NotTrustedError, PeerUnavailableError
from qkt_p2p.identity.authority import Authority, create_authority
from qkt_p2p.identity.keys import dns_name_of, spiffe_uri
from qkt_p2p.identity.standing import Standing
from qkt_p2p.identity.trust import Identity
from qkt_p2p.transport.client import PeerClient
from qkt_p2p.transport.credentials import channel_options
from qkt_p2p.transport.dialer import TlsDialer
from qkt_p2p.transport.identify import _first_byte, identify
from qkt_p2p.transport.methods import HELLO
from qkt_p2p.transport.server import PeerServer
from qkt_p2p.transport.tls import TlsLine
from qkt_p2p.types import PeerId, short
from tests.patience import PATIENCE_SECONDS
from tests.transport.forgery import forge
from tests.transport.members import ASKER_NODE, TEACHER_NODE, Teacher, join

FEDERATION = "hospitals.example"
Served = tuple[PeerServer, int]
Members = tuple[Identity, Identity, Identity]


@pytest.fixture(scope="module")
def authority() -> Authority:
    return create_authority(FEDERATION)


@pytest.fixture(scope="module")
def asker(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return join(authority, tmp_path_factory.mktemp("asker"))


Serve = Callable[[Identity], Awaitable[str]]


@pytest.fixture
async def serve(teacher: Teacher) -> AsyncIterator[Serve]:
    """Serves the teacher as somebody, and returns where."""
    servers: list[PeerServer] = []

    async def start(identity: Identity) -> str:
        servers.append(PeerServer(teacher, Standing(identity)))
        return f"127.0.0.1:{await servers[-1].start('127.0.0.1:0')}"

    yield start
    for server in servers:
        await server.stop(0)


async def hello(caller: Identity, peer: PeerId, address: str) -> object:
    client = PeerClient(peer, TlsLine(peer, address, caller))
    try:
        return await client.hello(ASKER_NODE)
    finally:
        await client.close()


async def test_two_members_talk(asker: Identity, authority: Authority, serve: Serve, tmp_path: Path) -> None:
    """The dialer finds out who answers, and then calls nobody else."""
    teacher = join(authority, tmp_path)
    address = await serve(teacher)
    dialer = TlsDialer(Standing(asker))
    assert await dialer.identify(address) == teacher.peer_id
    client = dialer.connect(teacher.peer_id, address)
    assert await client.hello(ASKER_NODE) == TEACHER_NODE
    await client.close()


async def test_another_member_than_the_one_dialed_is_refused(
    members: Members, served: Served, teacher: Teacher
) -> None:
    """A member of the same federation cannot answer in another's place."""
    asker, _, other = members
    with pytest.raises(PeerUnavailableError, match=short(other.peer_id)):
        await hello(asker, other.peer_id, f"127.0.0.1:{served[1]}")
    assert teacher.callers == []


async def test_a_member_of_another_federation_may_not_call(
    members: Members, stranger: Identity, served: Served, teacher: Teacher
) -> None:
    """The name of a federation proves nothing: its authority's signature does."""
    address, peer = f"127.0.0.1:{served[1]}", members[1].peer_id
    with pytest.raises(PeerUnavailableError):
        await hello(stranger, peer, address)
    with pytest.raises(NotTrustedError, match="its certificate is not accepted"):
        await identify(address, stranger)
    assert teacher.callers == []


async def test_a_server_of_another_federation_is_not_called(
    members: Members, stranger: Identity, serve: Serve, teacher: Teacher
) -> None:
    """Nothing is said to a stranger, not even who this node is."""
    address = await serve(stranger)
    with pytest.raises(PeerUnavailableError):
        await hello(members[0], stranger.peer_id, address)
    with pytest.raises(NotTrustedError, match="its certificate is not accepted"):
        await identify(address, members[0])
    assert teacher.callers == []


async def test_a_caller_without_a_certificate_is_refused(
    members: Members, served: Served, teacher: Teacher
) -> None:
    """Knowing the federation's root is not enough to call."""
    credentials = grpc.ssl_channel_credentials(root_certificates=members[1].roots)
    await refused(served[1], credentials, members[1].peer_id)
    assert teacher.callers == []


async def test_a_caller_without_tls_is_refused(members: Members, served: Served, teacher: Teacher) -> None:
    """There is no insecure mode to fall back to."""
    await refused(served[1], None, members[1].peer_id)
    assert teacher.callers == []


async def refused(port: int, credentials: grpc.ChannelCredentials | None, peer: PeerId) -> None:
    target, options = f"127.0.0.1:{port}", channel_options(peer)
    channel = (
        grpc.aio.secure_channel(target, credentials, options=options)
        if credentials is not None
        else grpc.aio.insecure_channel(target, options=options)
    )
    async with channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(HELLO.path)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"", timeout=PATIENCE_SECONDS)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("uris", "reason"),
    [
        (("{own}", "{other}"), "exactly one URI, and names 2"),
        ((), "exactly one URI, and names 0"),
        (("{abroad}",), "'others.example', not of 'hospitals.example'"),
        (("https://hospitals.example/",), "https"),
    ],
)
async def test_a_certificate_that_does_not_say_who_calls_is_refused(
    authority: Authority,
    asker: Identity,
    serve: Serve,
    teacher: Teacher,
    tmp_path: Path,
    uris: tuple[str, ...],
    reason: str,
) -> None:
    """Two names, none, another federation's or another kind: each side says why it does not trust them."""
    other = PeerId("b" * 52)
    named = {
        "own": spiffe_uri(FEDERATION, asker.peer_id),
        "other": spiffe_uri(FEDERATION, other),
        "abroad": spiffe_uri("others.example", other),
    }
    forged = forge(
        authority, tmp_path / "forged", uris=[uri.format(**named) for uri in uris], hosts=[dns_name_of(other)]
    )
    honest = join(authority, tmp_path / "honest")
    with pytest.raises(NotTrustedError, match=reason):
        await hello(forged, honest.peer_id, await serve(honest))
    with pytest.raises(NotTrustedError, match=reason):
        await identify(await serve(forged), asker)
    assert teacher.callers == []


async def test_an_expired_certificate_is_refused_and_each_side_says_so(
    authority: Authority, asker: Identity, serve: Serve, tmp_path: Path
) -> None:
    """Of the two sides of a broken handshake both can tell their owner what to do."""
    peer = PeerId("b" * 52)
    expired = forge(
        authority,
        tmp_path / "expired",
        uris=[spiffe_uri(FEDERATION, peer)],
        hosts=[dns_name_of(peer)],
        begin=timedelta(hours=-2),
        end=timedelta(hours=-1),
    )
    honest = join(authority, tmp_path / "honest")
    with pytest.raises(NotTrustedError, match="not accepted: certificate has expired"):
        await identify(await serve(expired), asker)
    with pytest.raises(NotTrustedError, match=r"refused|closed the connection after seeing"):
        await identify(await serve(honest), expired)
    with pytest.raises(PeerUnavailableError):
        await hello(expired, honest.peer_id, await serve(honest))


async def test_whoever_expired_is_told_so_and_dials_nobody(
    authority: Authority, teacher: Teacher, serve: Serve, tmp_path: Path
) -> None:
    """Its peers would end the handshake without a word: reason and remedy come from the node itself."""
    honest, late = join(authority, tmp_path / "honest"), join(authority, tmp_path / "late")
    standing = Standing(late, clock=lambda: late.not_after + timedelta(hours=1))
    dialer, address = TlsDialer(standing), await serve(honest)
    client = dialer.connect(honest.peer_id, address)
    for attempt in (dialer.identify(address), client.hello(ASKER_NODE)):
        with pytest.raises(NotTrustedError, match="this node's certificate expired at") as told:
            await attempt
        assert f"qkt-node join TOKEN --home {late.files.directory.parent}" in told.value.fix
    await client.close()
    assert teacher.callers == []


async def test_a_reset_instead_of_the_first_byte_tells_of_the_certificate(asker: Identity) -> None:
    """gRPC refuses a certificate by closing; what it had not read by then turns that into a reset."""

    class Resetting(asyncio.StreamReader):
        async def read(self, n: int = -1) -> bytes:
            raise ConnectionResetError(104, "Connection reset by peer")

    with pytest.raises(
        ConnectionResetError, match=r"reset by peer after it saw this node's certificate: .*clock"
    ):
        await _first_byte(Resetting(), asker)


async def test_nobody_at_an_address(asker: Identity) -> None:
    """A closed port and an impossible address are unavailable, and name the address."""
    listener = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    listener.close()
    await listener.wait_closed()
    for address in (f"127.0.0.1:{port}", "not an address", "nowhere.invalid:1"):
        with pytest.raises(PeerUnavailableError, match=address):
            await identify(address, asker)


async def test_something_else_at_an_address(asker: Identity) -> None:
    """A server that speaks no TLS, or says nothing at all, is not waited for long."""

    gone = asyncio.Event()

    async def chatty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await silent(reader, writer)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.read()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        gone.set()

    for behavior, seconds, error, reason in (
        (chatty, PATIENCE_SECONDS, NotTrustedError, "the handshake was refused"),
        (silent, 0.1, PeerUnavailableError, "no answer within 0.1 s"),
    ):
        gone.clear()
        async with await asyncio.start_server(behavior, "127.0.0.1", 0) as listener:
            address = f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
            with pytest.raises(error, match=f"{address}: {reason}"):
                await identify(address, asker, seconds=seconds)
            await gone.wait()


def test_a_hint_is_never_a_path(asker: Identity) -> None:
    """An address that grpc would open as a socket of this machine is no address."""
    with pytest.raises(PeerUnavailableError, match="is not host:port"):
        TlsDialer(Standing(asker)).connect(PeerId("b" * 52), "unix:/run/control.sock:1")


async def test_an_address_at_which_nothing_listens_is_named_with_what_to_check(members: Members) -> None:
    """As where IPv4 is dialed and only IPv6 is bound, or the port is another one."""
    with socket.socket(socket.AF_INET6) as listener:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(("::1", 0))
        listener.listen()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(PeerUnavailableError, match=f"{address}: nothing listens there.*kind of address"):
            await identify(address, members[0])
