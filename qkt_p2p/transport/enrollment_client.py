"""Calls a federation's authority: joins with a token, and renews a member's certificate."""

from __future__ import annotations

import asyncio
import os
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import grpc
from google.protobuf.message import Message

from qkt_p2p.errors import NotTrustedError, PeerUnavailableError, ProtocolError, QktError, UsageError
from qkt_p2p.identity.certificates import request_der
from qkt_p2p.identity.enrollment import ENROLLMENT_DNS_NAME, check_service, prove
from qkt_p2p.identity.files import load_file
from qkt_p2p.limits import CALL_SECONDS, ENROLLMENT_ANSWER_BYTES, ENROLLMENT_MESSAGE_BYTES
from qkt_p2p.pb import enrollment_pb2 as pb
from qkt_p2p.transport.addresses import split_address, target_of
from qkt_p2p.transport.methods import parse_message
from qkt_p2p.transport.names import open_tls
from qkt_p2p.transport.status import peer_error, told_fix

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from qkt_p2p.identity.tokens import Token
    from qkt_p2p.identity.trust import Identity

A = TypeVar("A", bound=Message)

_OPTIONS: Final = [
    ("grpc.ssl_target_name_override", ENROLLMENT_DNS_NAME),
    ("grpc.max_receive_message_length", ENROLLMENT_ANSWER_BYTES),
    ("grpc.max_send_message_length", ENROLLMENT_MESSAGE_BYTES),
    ("grpc.enable_http_proxy", 0),
    # The pinned certificate is the channel's own: no other channel may lend its connection.
    ("grpc.use_local_subchannel_pool", 1),
]

_DISTRUST: Final = "CERTIFICATE_VERIFY_FAILED"
"""What grpc says of a server that it does not trust; whom a server does not trust hears nothing."""

_ASK: Final = "ask the authority's owner, who makes a new token with: qkt-node invite --home CA_DIR"


@dataclass(frozen=True, slots=True)
class Issued:
    """What an authority answered: a bundle for `install_bundle`, revocation lists, and where to renew.

    Bytes are PEM; nothing of it is checked yet.
    """

    bundle: bytes
    revocation_lists: bytes
    renewal_addresses: tuple[str, ...] = ()


async def enroll(token: Token, request: bytes, *, now: datetime | None = None) -> Issued:
    """Have `request` (PEM) signed against a token, at the first of its addresses that proves to be right.

    Sends nothing before the root of the token signed the certificate of whoever answers. Raises
    NotTrustedError where a side refuses the other, PeerUnavailableError where nobody answers.
    """
    time = now or datetime.now(UTC)
    if time >= token.expires:
        raise NotTrustedError(
            f"the token expired at {token.expires:%Y-%m-%d %H:%M} UTC (now {time:%Y-%m-%d %H:%M} UTC "
            "by this machine's clock)",
            fix=_ASK,
        )
    failures: list[QktError] = []
    for address in token.addresses:
        try:
            certificate = await _find_service(address, token, time)
        except (NotTrustedError, PeerUnavailableError, ProtocolError) as error:
            failures.append(error)
        else:
            return await _enroll_at(address, token, request_der(request), certificate)
    raise _worst(failures)


async def renew(identity: Identity, addresses: Sequence[str], *, request: bytes | None = None) -> Issued:
    """Have the member's next certificate signed, at the first of `addresses` that answers.

    `request` (PEM) is for another key that shall take over; without one the certificate is for the key
    in use. Raises NotTrustedError where the authority refuses or is another's, UsageError without
    addresses, PeerUnavailableError where nobody answers.
    """
    if not addresses:
        raise UsageError(
            "this home does not know where its authority renews certificates",
            fix="give --address HOST:PORT, or have identity/request.pem signed: qkt-node ca sign REQUEST",
        )
    asked = pb.RenewRequest(certificate_request=request_der(request or load_file(identity.files.request)))
    credentials = grpc.ssl_channel_credentials(
        identity.roots, identity.private_key, identity.certificate_chain
    )
    failures: list[QktError] = []
    for address in addresses:
        try:
            async with _channel(address, credentials) as channel:
                path = "/qkt.v1.RenewalService/Renew"
                answer = await _ask(channel, path, asked, pb.RenewResponse, address)
        except PeerUnavailableError as error:
            failures.append(error)
        else:
            return Issued(_pem(answer.certificate_chain + answer.roots), _pem(answer.revocation_lists))
    raise _worst(failures)


async def _find_service(address: str, token: Token, now: datetime) -> bytes:
    """Return the certificate of the token's authority, PEM, if it is the one that answers at `address`."""
    certificate = await _shown_certificate(address)
    async with _channel(address, grpc.ssl_channel_credentials(certificate)) as channel:
        path = "/qkt.v1.EnrollmentService/GetFederation"
        answer = await _ask(
            channel, path, pb.GetFederationRequest(), pb.GetFederationResponse, address, proven=False
        )
    try:
        check_service(certificate, _pem(answer.roots), federation=token.federation, root=token.root, now=now)
    except NotTrustedError as error:
        raise NotTrustedError(f"{address}: {error.message}", fix=error.fix) from error
    return certificate


async def _enroll_at(address: str, token: Token, request: bytes, certificate: bytes) -> Issued:
    asked = pb.EnrollRequest(
        invitation_id=token.invitation, proof=prove(token.secret, request), certificate_request=request
    )
    async with _channel(address, grpc.ssl_channel_credentials(certificate)) as channel:
        path = "/qkt.v1.EnrollmentService/Enroll"
        answer = await _ask(channel, path, asked, pb.EnrollResponse, address)
    host = address.rpartition(":")[0]
    # Whoever answers is proven to be the authority; its number is only made to be a port.
    renewal = (f"{host}:{answer.renewal_port}",) if 0 < answer.renewal_port < 65536 else ()
    return Issued(_pem(answer.certificate_chain + answer.roots), _pem(answer.revocation_lists), renewal)


async def _shown_certificate(address: str) -> bytes:
    """Return the certificate that a TLS server shows, PEM, trusting nothing and sending nothing."""
    host, port = split_address(address)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # It is judged in the next step, against the token; until then it is only looked at.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        async with asyncio.timeout(CALL_SECONDS):
            _, writer = await open_tls(host, port, context)
    except ssl.SSLError as error:
        reason = (error.reason or str(error)).replace("_", " ").lower()
        raise NotTrustedError(
            f"{address}: whoever answers does not speak TLS as it must: {reason}"
        ) from error
    except TimeoutError as error:
        raise PeerUnavailableError(f"{address}: no answer within {CALL_SECONDS:.0f} s") from error
    except OSError as error:
        # asyncio's own text repeats the address instead of saying what is wrong.
        known = error.errno is not None and error.errno > 0
        cause = os.strerror(error.errno or 0) if known else error.strerror or str(error)
        raise PeerUnavailableError(f"{address}: {cause.lower()}") from error
    try:
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.transport.abort()
    if not shown:
        raise NotTrustedError(f"{address}: whoever answers shows no certificate")
    return ssl.DER_cert_to_PEM_cert(shown).encode("ascii")


@asynccontextmanager
async def _channel(address: str, credentials: grpc.ChannelCredentials) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.secure_channel(target_of(address), credentials, options=_OPTIONS) as channel:
        yield channel


async def _ask(
    channel: grpc.aio.Channel,
    path: str,
    request: Message,
    kind: type[A],
    address: str,
    *,
    proven: bool = True,
) -> A:
    """Call a method; where the authority refuses, and is `proven` to be it, it is the one that knows why."""
    call: Any = channel.unary_unary(path)
    try:
        answer = await call(request.SerializeToString(), timeout=CALL_SECONDS)
    except grpc.aio.AioRpcError as error:
        known = peer_error(error.code(), error.details() or "")
        if _DISTRUST in known.message:
            known = NotTrustedError("whoever answers is not of the authority that this home trusts")
        fix = told_fix(error) if proven else ""
        if not fix and isinstance(known, NotTrustedError):
            fix = _ASK
        raise type(known)(f"the authority at {address}: {known.message}", fix=fix) from error
    return parse_message(kind, answer)


def _pem(text: str) -> bytes:
    try:
        return text.encode("ascii")
    except UnicodeEncodeError as error:
        raise ProtocolError("the authority's answer is not PEM text") from error


def _worst(failures: Sequence[QktError]) -> QktError:
    """Return one error for all addresses: distrust, where there was any, else that nobody answered."""
    distrust = [each for each in failures if isinstance(each, NotTrustedError)]
    kind = type((distrust or failures)[0])
    fix = next((each.fix for each in (*distrust, *failures) if each.fix), "")
    return kind(
        "; ".join(each.message for each in failures),
        fix=fix or "check that the authority serves (qkt-node ca serve), can be reached, and is this home's",
    )
