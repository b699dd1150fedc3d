"""Joining and renewing over real TLS: who gets in, who does not, and what an attacker on the way achieves."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

from qkt_p2p.errors import (
    ConfigError,
    NotTrustedError,
    PeerRefusedError,
    PeerUnavailableError,
    ProtocolError,
    QktError,
    UsageError,
)
from qkt_p2p.identity.authority import Authority, create_authority, save_authority
from qkt_p2p.identity.certificates import create_request, request_der
from qkt_p2p.identity.enrollment import (
    ENROLLMENT_DNS_NAME,
    ServiceCertificate,
    create_service_certificate,
    prove,
)
from qkt_p2p.identity.keys import generate_key
from qkt_p2p.identity.registrar import Registrar
from qkt_p2p.identity.revocations import load_revocations
from qkt_p2p.identity.tokens import Token
from qkt_p2p.identity.trust import Identity, IdentityFiles, create_identity, install_bundle, load_identity
from qkt_p2p.limits import ENROLLMENT_CALLS_PER_ADDRESS, ENROLLMENT_MESSAGE_BYTES
from qkt_p2p.pb import enrollment_pb2 as pb
from qkt_p2p.transport import enrollment_server
from qkt_p2p.transport.enrollment_client import enroll, renew
from qkt_p2p.transport.enrollment_server import Admitted, EnrollmentServer
from tests.transport.members import join

AUTHORITY = create_authority("fed")
HOUR = timedelta(hours=1)
ENROLL = "/qkt.v1.EnrollmentService/Enroll"
RENEW = "/qkt.v1.RenewalService/Renew"


@dataclass
class Service:
    """An authority that serves on loopback, and what it told its owner."""

    registrar: Registrar
    admitted: list[Admitted] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    port: int = 0
    renewal_port: int = 0

    @property
    def renewal(self) -> tuple[str, ...]:
        return (f"127.0.0.1:{self.renewal_port}",)

    def token(self, *, uses: int = 1, lifetime: timedelta = HOUR, addresses: Sequence[str] = ()) -> Token:
        made = self.registrar.invitations.issue(
            name="Ward 7", roles=["teacher"], lifetime=lifetime, uses=uses
        )
        return Token(
            federation="fed",
            root=self.registrar.authority.fingerprint,
            invitation=made.id,
            secret=made.secret,
            expires=made.expires,
            addresses=tuple(addresses) or (f"127.0.0.1:{self.port}",),
        )


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    """A served authority."""
    save_authority(AUTHORITY, tmp_path / "ca")
    service = Service(Registrar(AUTHORITY, tmp_path / "ca"))
    server = EnrollmentServer(
        service.registrar,
        admitted=service.admitted.append,
        refused=lambda _, reason: service.refused.append(reason),
    )
    service.port, service.renewal_port = await server.start("127.0.0.1:0", "127.0.0.1:0")
    yield service
    await server.stop(0)


def request() -> bytes:
    return create_request(generate_key())


async def member(service: Service, home: Path) -> Identity:
    """Return a machine that joined with a token."""
    create_identity(home)
    issued = await enroll(service.token(), IdentityFiles(home).request.read_bytes())
    install_bundle(home, issued.bundle)
    return load_identity(home)


async def call(service: Service, path: str, message: bytes, roots: bytes = AUTHORITY.roots) -> bytes:
    """Call as a program of somebody else's would, without a certificate."""
    port = service.renewal_port if path == RENEW else service.port
    options = [("grpc.ssl_target_name_override", ENROLLMENT_DNS_NAME)]
    credentials = grpc.ssl_channel_credentials(roots)
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options) as channel:
        ask: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
        return await ask(message, timeout=10)


async def test_a_machine_joins_with_a_token(service: Service, tmp_path: Path) -> None:
    """It is a member with the name and roles of the invitation, and knows where to renew."""
    create_identity(tmp_path / "identity")
    issued = await enroll(service.token(), IdentityFiles(tmp_path / "identity").request.read_bytes())
    joined = install_bundle(tmp_path / "identity", issued.bundle)
    assert (joined.name, joined.roles, joined.fingerprints) == (
        "Ward 7",
        ("teacher",),
        (AUTHORITY.fingerprint,),
    )
    assert issued.renewal_addresses == service.renewal
    (told,) = service.admitted
    assert (told.peer, told.name, told.address) == (joined.peer_id, "Ward 7", "127.0.0.1")
    assert told.fingerprint.replace("-", "") == joined.peer_id[:16]


async def test_addresses_are_tried_in_turn(service: Service) -> None:
    """One that nobody answers at, one that is somebody else's, then the right one."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{closed.getsockname()[1]}"
        addresses = (nobody, service.renewal[0], f"127.0.0.1:{service.port}")
        assert (await enroll(service.token(addresses=addresses), request())).bundle
        with pytest.raises(PeerUnavailableError, match="refused") as caught:
            await enroll(service.token(addresses=(nobody,)), request())
        assert "ca serve" in caught.value.fix


async def test_a_token_is_used_once(service: Service) -> None:
    """The second machine is refused, and both sides say why."""
    token = service.token()
    await enroll(token, request())
    with pytest.raises(NotTrustedError, match="used already") as caught:
        await enroll(token, request())
    assert "qkt-node invite" in caught.value.fix
    assert "used already" in service.refused[0]


async def test_an_expired_token_is_refused_on_both_sides(service: Service) -> None:
    """By the machine's clock before anything is sent; by the authority's where the machine's is wrong."""
    token = service.token(lifetime=timedelta(seconds=60))
    with pytest.raises(NotTrustedError, match="by this machine's clock"):
        await enroll(token, request(), now=token.expires)
    late = replace(token, invitation=service.token().invitation, expires=datetime.now(UTC) + HOUR)
    with pytest.raises(NotTrustedError, match="the proof does not fit"):
        await enroll(late, request())


async def test_a_token_with_another_root_is_refused_before_anything_is_sent(service: Service) -> None:
    """The authority that answers is not the token's: it never sees the request."""
    token = replace(service.token(), root=create_authority("fed").fingerprint)
    with pytest.raises(NotTrustedError, match="not the authority that made the token"):
        await enroll(token, request())
    assert service.admitted == []
    assert service.refused == []


async def test_a_guessed_token_is_refused(service: Service) -> None:
    """An unknown invitation, and a known one with another secret."""
    token = service.token()
    with pytest.raises(NotTrustedError, match="does not know this invitation"):
        await enroll(replace(token, invitation="00" * 16), request())
    with pytest.raises(NotTrustedError, match="the proof does not fit"):
        await enroll(replace(token, secret=bytes(32)), request())
    assert service.admitted == []


async def test_a_request_changed_on_the_way_is_refused(service: Service) -> None:
    """Whoever could change the request cannot make the proof for it."""
    token, mine, theirs = service.token(), request_der(request()), request_der(request())
    message = pb.EnrollRequest(
        invitation_id=token.invitation, proof=prove(token.secret, mine), certificate_request=theirs
    )
    with pytest.raises(grpc.aio.AioRpcError, match="the request was changed on the way") as caught:
        await call(service, ENROLL, message.SerializeToString())
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert service.admitted == []


@dataclass
class Impostor:
    """Somebody on the way, who shows a certificate of his own and whatever roots he likes."""

    shown: ServiceCertificate
    roots: bytes
    heard: list[str] = field(default_factory=list)

    async def serve(self) -> tuple[grpc.aio.Server, int]:
        async def get_federation(_: bytes, __: object) -> bytes:
            self.heard.append("GetFederation")
            return pb.GetFederationResponse(roots=self.roots.decode()).SerializeToString()

        async def take(_: bytes, __: object) -> bytes:
            self.heard.append("Enroll")
            return b""

        server = grpc.aio.server()
        methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "GetFederation": grpc.unary_unary_rpc_method_handler(get_federation),
            "Enroll": grpc.unary_unary_rpc_method_handler(take),
        }
        handler = grpc.method_handlers_generic_handler("qkt.v1.EnrollmentService", methods)
        server.add_generic_rpc_handlers((handler,))
        pairs = [(self.shown.key, self.shown.certificate)]
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials(pairs))
        await server.start()
        return server, port


@pytest.mark.parametrize("roots", [AUTHORITY.roots, create_authority("fed").roots, b"", b"\x00"])
async def test_somebody_on_the_way_hears_no_secret(service: Service, roots: bytes) -> None:
    """Neither with the true roots, which everybody can have, nor with others: nothing is sent to him."""
    impostor = Impostor(create_service_certificate(create_authority("fed")), roots)
    server, port = await impostor.serve()
    with pytest.raises(NotTrustedError):
        await enroll(service.token(addresses=[f"127.0.0.1:{port}"]), request())
    await server.stop(0)
    assert impostor.heard == ["GetFederation"]


async def test_bytes_changed_on_the_way_end_the_connection(service: Service) -> None:
    """TLS notices; no use of the token is taken."""
    changed = 0

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, damage: bool) -> None:
        nonlocal changed
        sent = 0
        while data := await reader.read(65536):
            if damage and sent > 600:
                data = data[:-1] + bytes([data[-1] ^ 1])
                changed += 1
            sent += len(data)
            writer.write(data)
            await writer.drain()
        writer.close()

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", service.port)
        await asyncio.gather(
            pump(reader, back, damage=True), pump(there, writer, damage=False), return_exceptions=True
        )
        back.close()
        writer.close()

    token = service.token()
    async with await asyncio.start_server(meet, "127.0.0.1", 0) as proxy:
        port = proxy.sockets[0].getsockname()[1]
        with pytest.raises(QktError):
            await enroll(replace(token, addresses=(f"127.0.0.1:{port}",)), request())
    assert changed > 0
    assert service.admitted == []
    assert (await enroll(token, request())).bundle


async def test_what_does_not_speak_tls_is_told(service: Service) -> None:
    """A plain server at the token's address is no authority, and hears no secret."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ready\r\n" * 20)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(QktError, match=f"127.0.0.1:{port}"):
            await enroll(service.token(addresses=[f"127.0.0.1:{port}"]), request())


@pytest.mark.parametrize("path", [ENROLL, "/qkt.v1.EnrollmentService/GetFederation"])
async def test_malformed_messages_are_refused(service: Service, path: str) -> None:
    """Bytes that are no message, and messages over the cap."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(service, path, b"\xff" * 100)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(service, path, bytes(ENROLLMENT_MESSAGE_BYTES + 1))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_strangers_are_slowed_down(service: Service) -> None:
    """After an address's allowance its calls are refused before anything is done for them."""
    _, most = ENROLLMENT_CALLS_PER_ADDRESS
    message = pb.EnrollRequest(invitation_id="00" * 16).SerializeToString()
    codes = []
    for _ in range(most + 5):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(service, ENROLL, message)
        codes.append(caught.value.code())
    assert codes[0] is grpc.StatusCode.PERMISSION_DENIED
    assert grpc.StatusCode.FAILED_PRECONDITION in codes[most:]
    assert len(service.refused) < len(codes)
    with pytest.raises(PeerRefusedError, match="too many calls from 127"):
        await asyncio.gather(*(enroll(service.token(), request()) for _ in range(5)))


async def test_a_member_renews(service: Service, tmp_path: Path) -> None:
    """The key, the name and the roles stay; the certificate is another."""
    before = await member(service, tmp_path)
    issued = await renew(before, service.renewal)
    install_bundle(tmp_path, issued.bundle)
    after = load_identity(tmp_path)
    assert (after.peer_id, after.facts.name, after.facts.roles) == (before.peer_id, "Ward 7", ("teacher",))
    assert after.facts.serial != before.facts.serial
    assert service.admitted[-1].invitation == ""


async def test_a_member_hears_of_revocations_when_it_renews(service: Service, tmp_path: Path) -> None:
    """And so does a new member when it joins."""
    mine, other = await member(service, tmp_path / "a"), await member(service, tmp_path / "b")
    service.registrar.revoke(other.peer_id)
    for issued in (await renew(mine, service.renewal), await enroll(service.token(), request())):
        (tmp_path / "revoked.pem").write_bytes(issued.revocation_lists)
        assert load_revocations(tmp_path / "revoked.pem", mine.roots).revokes_peer(other.peer_id)
    with pytest.raises(NotTrustedError, match="has revoked peer") as caught:
        await renew(other, service.renewal)
    assert "has revoked peer" in service.refused[-1]
    assert "a new home (qkt-node init), a new token" in caught.value.fix


async def test_a_token_does_not_help_a_revoked_key(service: Service, tmp_path: Path) -> None:
    """Whoever joins with one by a key that was revoked is not sent for another one."""
    revoked = await member(service, tmp_path)
    service.registrar.revoke(revoked.peer_id)
    with pytest.raises(NotTrustedError, match="has revoked peer") as caught:
        await enroll(service.token(), revoked.files.request.read_bytes())
    assert "a new home (qkt-node init)" in caught.value.fix


async def test_without_a_certificate_nobody_renews(service: Service) -> None:
    """TLS ends before the call."""
    message = pb.RenewRequest(certificate_request=request_der(request())).SerializeToString()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(service, RENEW, message)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert service.admitted == []


async def test_a_member_of_another_federation_does_not_renew(service: Service, tmp_path: Path) -> None:
    """Neither side accepts the other, although both federations bear one name."""
    foreign = join(create_authority("fed"), tmp_path)
    with pytest.raises(NotTrustedError, match="not of the authority that this home trusts"):
        await renew(foreign, service.renewal)
    with pytest.raises(PeerUnavailableError):
        await renew(replace(foreign, roots=AUTHORITY.roots), service.renewal)
    assert service.admitted == []


async def test_a_member_cannot_be_led_to_another_member(service: Service, tmp_path: Path) -> None:
    """A request for renewal goes to the enrolment service of the federation alone."""
    identity = await member(service, tmp_path / "a")
    other = join(AUTHORITY, tmp_path / "b")
    server = grpc.aio.server()
    port = server.add_secure_port(
        "127.0.0.1:0", grpc.ssl_server_credentials([(other.private_key, other.certificate_chain)])
    )
    await server.start()
    with pytest.raises((NotTrustedError, PeerUnavailableError)):
        await renew(identity, (f"127.0.0.1:{port}",))
    await server.stop(0)


async def test_without_addresses_a_renewal_says_what_to_do(service: Service, tmp_path: Path) -> None:
    """Homes that joined by files renew by files."""
    with pytest.raises(UsageError, match="does not know where") as caught:
        await renew(await member(service, tmp_path), ())
    assert "ca sign" in caught.value.fix


async def test_members_of_either_authority_renew_during_a_change_over(tmp_path: Path) -> None:
    """The new authority renews what the old one signed, and hands out both roots."""
    new = create_authority("fed")
    both = Authority("fed", new.certificate, new.key, AUTHORITY.roots)
    save_authority(new, tmp_path / "ca")
    server = EnrollmentServer(
        Registrar(both, tmp_path / "ca"), admitted=lambda _: None, refused=lambda _, __: None
    )
    _, port = await server.start("127.0.0.1:0", "127.0.0.1:0")
    old = replace(join(AUTHORITY, tmp_path / "home"), roots=AUTHORITY.roots + new.roots)
    old.files.roots.write_bytes(old.roots)
    issued = await renew(old, (f"127.0.0.1:{port}",))
    assert install_bundle(tmp_path / "home", issued.bundle).fingerprints == (
        new.fingerprint,
        AUTHORITY.fingerprint,
    )
    assert load_identity(tmp_path / "home").facts.issuer_fingerprint == new.fingerprint
    await server.stop(0)


async def test_the_services_certificate_renews_itself(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the next connection on, without a restart."""

    def shown() -> str:
        return ssl.get_server_certificate(("127.0.0.1", service.port), timeout=10)

    first, again = await asyncio.to_thread(shown), await asyncio.to_thread(shown)

    class Later:
        @staticmethod
        def now(_: object) -> datetime:
            return datetime.now(UTC) + timedelta(days=5)

    monkeypatch.setattr(enrollment_server, "datetime", Later)
    third = await asyncio.to_thread(shown)
    assert first == again != third


async def test_a_taken_port_is_told(service: Service) -> None:
    """With the options that change it."""
    server = EnrollmentServer(service.registrar, admitted=lambda _: None, refused=lambda _, __: None)
    with pytest.raises(ConfigError, match="the port is taken") as caught:
        await server.start(f"127.0.0.1:{service.port}", "127.0.0.1:0")
    assert "--listen" in caught.value.fix
    await server.stop(0)


async def test_an_answer_that_is_not_text_is_refused(service: Service) -> None:
    """What the authority's own key protects is parsed with care all the same."""
    impostor = Impostor(create_service_certificate(AUTHORITY), AUTHORITY.roots + "é".encode())
    server, port = await impostor.serve()
    with pytest.raises(ProtocolError, match="not PEM text"):
        await enroll(service.token(addresses=[f"127.0.0.1:{port}"]), request())
    await server.stop(0)
