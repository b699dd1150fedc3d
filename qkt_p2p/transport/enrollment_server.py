"""Serves a federation's authority: enrolment to machines without a certificate, renewal to members.

Two ports, because a TLS server either demands a certificate of every caller or of none. Both take few,
small calls at a limited pace, and both show a certificate whose key never touches a disk.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import grpc
import structlog

from qkt_p2p.errors import ConfigError, QktError
from qkt_p2p.identity.enrollment import create_service_certificate
from qkt_p2p.identity.keys import short_fingerprint
from qkt_p2p.limits import (
    ENROLLMENT_ANSWER_BYTES,
    ENROLLMENT_CALLS,
    ENROLLMENT_CONNECTION_SECONDS,
    ENROLLMENT_MESSAGE_BYTES,
)
from qkt_p2p.pb import enrollment_pb2 as pb
from qkt_p2p.transport.authorization import certificate_of
from qkt_p2p.transport.guard import CallGuard
from qkt_p2p.transport.methods import parse_message
from qkt_p2p.transport.pace import RateLimiter, address_in

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from qkt_p2p.identity.authority import IssuedCertificate
    from qkt_p2p.identity.enrollment import ServiceCertificate
    from qkt_p2p.identity.registrar import Registrar
    from qkt_p2p.types import PeerId

    Context = grpc.aio.ServicerContext[Any, Any]
    Answer = Callable[[bytes, Context], Awaitable[bytes]]

log = structlog.get_logger(__name__)

ENROLLMENT: Final = pb.DESCRIPTOR.services_by_name["EnrollmentService"]
RENEWAL: Final = pb.DESCRIPTOR.services_by_name["RenewalService"]

_CONNECTION_MS: Final = int(ENROLLMENT_CONNECTION_SECONDS * 1000)
_OPTIONS: Final = [
    ("grpc.max_receive_message_length", ENROLLMENT_MESSAGE_BYTES),
    ("grpc.max_send_message_length", ENROLLMENT_ANSWER_BYTES),
    ("grpc.max_metadata_size", 8192),
    ("grpc.max_concurrent_streams", 4),
    ("grpc.max_connection_idle_ms", _CONNECTION_MS // 4),
    ("grpc.max_connection_age_ms", _CONNECTION_MS),
    ("grpc.max_connection_age_grace_ms", _CONNECTION_MS // 4),
    ("grpc.so_reuseport", 0),
]


@dataclass(frozen=True, slots=True)
class Admitted:
    """A certificate that was handed out; `invitation` is "" where a member renewed."""

    peer: PeerId
    name: str
    roles: tuple[str, ...]
    address: str
    invitation: str

    @property
    def fingerprint(self) -> str:
        """What the new member's side prints too."""
        return short_fingerprint(self.peer)


class EnrollmentServer:
    """The two ports of an authority.

    `admitted` is told of every certificate that is handed out, `refused` the caller's address and the
    reason why one is not.
    """

    def __init__(
        self,
        registrar: Registrar,
        *,
        admitted: Callable[[Admitted], None],
        refused: Callable[[str, str], None],
    ) -> None:
        self._registrar = registrar
        self._admitted = admitted
        self._refused = refused
        self._renewal_port = 0
        self._certificate = _RollingCertificate(registrar)
        enrollment = {"GetFederation": self._get_federation, "Enroll": self._enroll}
        self._enrollment = _server(ENROLLMENT.full_name, enrollment)
        self._renewal = _server(RENEWAL.full_name, {"Renew": self._renew})

    async def start(self, listen: str, renewal_listen: str) -> tuple[int, int]:
        """Bind both "host:port" and serve; return the ports. Raises ConfigError."""
        roots = self._registrar.authority.roots
        self._renewal_port = _bind(self._renewal, renewal_listen, self._certificate.credentials(roots))
        port = _bind(self._enrollment, listen, self._certificate.credentials(None))
        await self._renewal.start()
        await self._enrollment.start()
        return port, self._renewal_port

    async def stop(self, grace: float) -> None:
        """Refuse new calls at once and end running ones after `grace` seconds."""
        await asyncio.gather(self._enrollment.stop(grace), self._renewal.stop(grace))

    async def _get_federation(self, request: bytes, _context: Context) -> bytes:
        parse_message(pb.GetFederationRequest, request)
        roots = self._registrar.authority.roots.decode("ascii")
        return pb.GetFederationResponse(roots=roots).SerializeToString()

    async def _enroll(self, request: bytes, context: Context) -> bytes:
        address = address_in(context.peer())
        try:
            asked = parse_message(pb.EnrollRequest, request)
            admission = await asyncio.to_thread(
                self._registrar.enroll, asked.invitation_id, asked.proof, asked.certificate_request
            )
            lists = await asyncio.to_thread(self._revocation_lists)
        except QktError as error:
            self._tell_refusal(address, error)
            raise
        issued = admission.issued
        self._tell_admission(issued, address, admission.invitation.id)
        return pb.EnrollResponse(
            certificate_chain=issued.chain.decode("ascii"),
            roots=issued.roots.decode("ascii"),
            revocation_lists=lists,
            renewal_port=self._renewal_port,
        ).SerializeToString()

    async def _renew(self, request: bytes, context: Context) -> bytes:
        address = address_in(context.peer())
        try:
            caller = certificate_of(context, self._registrar.authority.federation)
            asked = parse_message(pb.RenewRequest, request)
            issued = await asyncio.to_thread(self._registrar.renew, caller, asked.certificate_request)
            lists = await asyncio.to_thread(self._revocation_lists)
        except QktError as error:
            self._tell_refusal(address, error)
            raise
        self._tell_admission(issued, address, "")
        return pb.RenewResponse(
            certificate_chain=issued.chain.decode("ascii"),
            roots=issued.roots.decode("ascii"),
            revocation_lists=lists,
        ).SerializeToString()

    def _revocation_lists(self) -> str:
        return self._registrar.revocations().pem.decode("ascii")

    def _tell_admission(self, issued: IssuedCertificate, address: str, invitation: str) -> None:
        told = Admitted(issued.peer_id, issued.name, issued.roles, address, invitation)
        log.info("certificate_issued", peer=told.peer, name=told.name, roles=told.roles, address=address)
        self._admitted(told)

    def _tell_refusal(self, address: str, error: QktError) -> None:
        log.warning("enrollment_refused", address=address, reason=error.message)
        self._refused(address, error.message)


class _RollingCertificate:
    """The service's certificate, replaced in good time; a connection gets the one of its moment."""

    def __init__(self, registrar: Registrar) -> None:
        self._authority = registrar.authority
        self._lock = threading.Lock()
        self._current = create_service_certificate(self._authority)

    def credentials(self, roots: bytes | None) -> grpc.ServerCredentials:
        """Return credentials that demand a certificate under `roots` of every caller; None: of nobody."""
        given = self._current

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            # Called by a thread of grpc's for every connection; None keeps what it has.
            nonlocal given
            current = self._renewed()
            if current is given:
                return None
            given = current
            return configuration()

        def configuration() -> grpc.ServerCertificateConfiguration:
            pairs = [(given.key, given.certificate)]
            return grpc.ssl_server_certificate_configuration(pairs, root_certificates=roots)

        return grpc.dynamic_ssl_server_credentials(
            configuration(),
            fetch,  # type: ignore[arg-type] # None is allowed, says grpc's documentation
            require_client_authentication=roots is not None,
        )

    def _renewed(self) -> ServiceCertificate:
        with self._lock:
            if datetime.now(UTC) >= self._current.due:
                self._current = create_service_certificate(self._authority)
            return self._current


def _server(service: str, methods: Mapping[str, Answer]) -> grpc.aio.Server:
    limiter = RateLimiter()

    def name_caller(context: Context) -> str:
        address = address_in(context.peer())
        limiter.admit(address)
        return address

    server = grpc.aio.server(
        interceptors=[CallGuard(name_caller)], options=_OPTIONS, maximum_concurrent_rpcs=ENROLLMENT_CALLS
    )
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        name: grpc.unary_unary_rpc_method_handler(answer) for name, answer in methods.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    return server


def _bind(server: grpc.aio.Server, listen: str, credentials: grpc.ServerCredentials) -> int:
    try:
        port = server.add_secure_port(listen, credentials)
    except RuntimeError as error:
        raise ConfigError(
            f"cannot listen on {listen}: the port is taken or the address is not of this machine",
            fix="give --listen and --renewal-listen a free host:port of this machine",
        ) from error
    return port
