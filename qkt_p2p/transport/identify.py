"""Who answers at an address: one mutual TLS handshake that reads the answering certificate.

A bootstrap address names a machine, not a peer, and grpc in Python cannot show a server's
certificate. So a node first shakes hands by itself, learns which member of its federation
answers, and then dials with grpc so that nobody but this peer can answer. The handshake also
tells why one side refuses the other, which grpc reports as "Socket closed".
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

from qkt_p2p.errors import NotTrustedError, PeerUnavailableError
from qkt_p2p.identity.trust import peer_from_uris
from qkt_p2p.limits import CALL_SECONDS
from qkt_p2p.transport.addresses import split_address

if TYPE_CHECKING:
    from qkt_p2p.identity.trust import Identity
    from qkt_p2p.types import PeerId


async def identify(address: str, identity: Identity, *, seconds: float = CALL_SECONDS) -> PeerId:
    """Return the peer id proven by whoever answers at `address`, "host:port", within `seconds`.

    Raises PeerUnavailableError where nobody does, NotTrustedError where one side refuses.
    """
    host, port = split_address(address)
    context = _context(identity)
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname="")
            try:
                # A TLS 1.3 server judges our certificate after the handshake has ended for us:
                # the first byte (grpc's settings) says yes, an alert says no.
                accepted = await reader.read(1)
                certificate = writer.get_extra_info("peercert")
            finally:
                writer.transport.abort()
    except ssl.SSLCertVerificationError as error:
        raise NotTrustedError(
            f"{address}: its certificate is not accepted: {error.verify_message}"
        ) from error
    except ssl.SSLError as error:
        raise NotTrustedError(f"{address}: the handshake was refused: {_reason(error)}") from error
    except TimeoutError as error:
        raise PeerUnavailableError(f"{address}: no answer within {seconds:g} s") from error
    except OSError as error:
        raise PeerUnavailableError(f"{address}: {error.strerror or error}") from error
    if not accepted:
        raise NotTrustedError(f"{address}: it closed the connection after seeing this node's certificate")
    return peer_from_uris(_uris(certificate), identity.federation)


def _context(identity: Identity) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # The peer is read from the verified certificate instead of being matched with a host name.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=identity.roots.decode("ascii"))
    context.load_cert_chain(identity.files.certificate, identity.files.key)
    context.set_alpn_protocols(["h2"])
    return context


def _uris(certificate: dict[str, object]) -> list[str]:
    names = certificate.get("subjectAltName", ())
    return [value for kind, value in names if kind == "URI"]  # type: ignore[attr-defined]


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()
