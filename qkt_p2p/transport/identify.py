"""Who answers at an address: one mutual TLS handshake that reads the answering certificate.

A bootstrap address names a machine, not a peer, and grpc in Python cannot show a server's
certificate. So a node first shakes hands by itself, learns which member of its federation
answers, and then dials with grpc so that nobody but this peer can answer. The handshake also
tells why one side refuses the other, which grpc reports as "Socket closed".
"""

from __future__ import annotations

import asyncio
import os
import ssl
from typing import TYPE_CHECKING, Final

from qkt_p2p.errors import NotTrustedError, PeerUnavailableError
from qkt_p2p.identity.certificates import facts_of_pem
from qkt_p2p.identity.trust import peer_from_uris
from qkt_p2p.limits import CALL_SECONDS
from qkt_p2p.transport.addresses import split_address
from qkt_p2p.transport.names import open_tls
from qkt_p2p.transport.refusals import why_it_closes, why_it_is_refused, why_it_refuses

if TYPE_CHECKING:
    from qkt_p2p.identity.inspection import CertificateFacts
    from qkt_p2p.identity.trust import Identity

_DAMAGED: Final = ("DECRYPTION_FAILED_OR_BAD_RECORD_MAC", "SSLV3_ALERT_BAD_RECORD_MAC")
"""What OpenSSL calls a record that is not what was sent, found here or by the peer: no question of trust."""


async def identify(address: str, identity: Identity, *, seconds: float = CALL_SECONDS) -> CertificateFacts:
    """Return the certificate of whoever answers at `address`, "host:port", within `seconds`.

    Its chain is verified, and it names the peer whose key it is of. Raises PeerUnavailableError where
    nobody answers, NotTrustedError where one side refuses.
    """
    host, port = split_address(address)
    context = _context(identity)
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await open_tls(host, port, context)
            try:
                # A TLS 1.3 server judges our certificate after the handshake has ended for us:
                # the first byte (grpc's settings) says yes, an alert says no.
                accepted = await _first_byte(reader, identity)
                shown = writer.get_extra_info("ssl_object")
                names, certificate = shown.getpeercert(), shown.getpeercert(binary_form=True)
            finally:
                writer.transport.abort()
    except ssl.SSLCertVerificationError as error:
        raise NotTrustedError(
            f"{address}: its certificate is not accepted: {why_it_is_refused(error)}"
        ) from error
    except ssl.SSLError as error:
        if error.reason in _DAMAGED:
            raise PeerUnavailableError(f"{address}: the handshake was damaged on the way") from error
        raise NotTrustedError(f"{address}: the handshake was refused: {why_it_refuses(error)}") from error
    except TimeoutError as error:
        raise PeerUnavailableError(f"{address}: no answer within {seconds:g} s") from error
    except OSError as error:
        raise PeerUnavailableError(f"{address}: {_cause(error)}") from error
    if not accepted:
        raise NotTrustedError(
            f"{address}: it closed the connection after seeing this node's certificate: "
            f"{why_it_closes(identity.facts)}"
        )
    return _facts(address, _uris(names), certificate, federation=identity.federation)


async def _first_byte(reader: asyncio.StreamReader, identity: Identity) -> bytes:
    """Return what the other side says first, b"" where it only closes; raises ConnectionResetError.

    Whoever refuses a certificate may reset the connection, and so may whoever dies: told as the latter.
    """
    try:
        return await reader.read(1)
    except ConnectionResetError as error:
        raise ConnectionResetError(
            f"Connection reset by peer after it saw this node's certificate: it may have gone away, "
            f"or {why_it_closes(identity.facts)}"
        ) from error


def _facts(address: str, uris: list[str], certificate: bytes, *, federation: str) -> CertificateFacts:
    peer = peer_from_uris(uris, federation)
    facts = facts_of_pem(ssl.DER_cert_to_PEM_cert(certificate).encode("ascii"))
    if facts.peer_id != peer:
        raise NotTrustedError(
            f"{address}: its certificate names peer {peer}, but its key is that of peer {facts.peer_id}"
        )
    return facts


def _context(identity: Identity) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # The peer is read from the verified certificate instead of being matched with a host name.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=identity.roots.decode("ascii"))
    _load_own(context, identity)
    context.set_alpn_protocols(["h2"])
    return context


def _load_own(context: ssl.SSLContext, identity: Identity) -> None:
    """Load key and certificate, which the ssl module takes from files only.

    From memory: those in the home may be about to change, one after the other.
    """
    descriptor = os.memfd_create("identity", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb") as file:
        file.write(identity.private_key + identity.certificate_chain)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")


def _uris(certificate: dict[str, object]) -> list[str]:
    names = certificate.get("subjectAltName", ())
    return [value for kind, value in names if kind == "URI"]  # type: ignore[attr-defined]


def _cause(error: OSError) -> str:
    """Return why no connection came about, with what is most often behind it."""
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there: is the port right, and does the peer listen on this kind of address?"
    return error.strerror or str(error) or type(error).__name__
