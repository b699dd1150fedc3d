"""Whoever must not get in: homes with credentials that no member has, as callers and as servers."""

from __future__ import annotations

import socket
import ssl
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from qkt_node.home import Home
from qkt_node.new_home import create_home
from qkt_p2p.identity.authority import Authority, create_authority
from qkt_p2p.identity.certificates import encode_certificate
from qkt_p2p.identity.keys import PrivateKey, dns_name_of, load_key, peer_id_of, spiffe_uri
from qkt_p2p.identity.trust import IdentityFiles
from qkt_p2p.types import PeerId

HOUR = timedelta(hours=1)
BOTH = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH)
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
HTTP2_SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
SETTINGS_FRAME = b"\x04"
"""Type of the first frame of whoever speaks HTTP/2."""
PATIENCE = 5.0


@dataclass(frozen=True)
class Forgery:
    """What is unusual about a certificate: its times from now on, its purposes, whom it names, who signs."""

    begin: timedelta = -HOUR
    end: timedelta = HOUR
    purposes: Sequence[x509.ObjectIdentifier] = BOTH
    names: PeerId | None = None
    by_itself: bool = False
    abroad: bool = False


def make_home(folder: Path, authority: Authority, forgery: Forgery) -> Home:
    """Return a home that holds such a certificate and trusts the true roots, as a stolen copy would."""
    home, _ = create_home(folder)
    files = IdentityFiles(home.identity)
    signer = create_authority(authority.federation) if forgery.abroad else authority
    files.certificate.write_bytes(_certify(signer, load_key(files.key), forgery))
    files.roots.write_bytes(authority.roots)
    return home


def _certify(authority: Authority, key: PrivateKey, forgery: Forgery) -> bytes:
    own = peer_id_of(key.public_key())
    named = forgery.names or own
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"peer {own}")])
    names = [
        x509.UniformResourceIdentifier(spiffe_uri(authority.federation, named)),
        x509.DNSName(dns_name_of(named)),
    ]
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if forgery.by_itself else authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + forgery.begin)
        .not_valid_after(now + forgery.end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage(forgery.purposes), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
    )
    return encode_certificate(builder.sign(key if forgery.by_itself else authority.key, hashes.SHA256()))


def calling(home: Home | None, *, tls: bool = True, newest: ssl.TLSVersion | None = None) -> Caller:
    """Return a caller with a home's credentials, or with none."""
    if not tls:
        return lambda port: _converse(socket.create_connection(("127.0.0.1", port), PATIENCE))

    def call(port: int) -> str:
        context = _context(ssl.PROTOCOL_TLS_CLIENT, home, newest)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        plain = socket.create_connection(("127.0.0.1", port), PATIENCE)
        try:
            return _converse(context.wrap_socket(plain))
        except (ssl.SSLError, ConnectionError) as error:
            return getattr(error, "reason", None) or str(error)

    return call


Caller = Callable[[int], str]
"""From a port to what the caller is left with: the reason of a refusal, "closed" or "accepted"."""


def _converse(connected: socket.socket) -> str:
    """Speak HTTP/2 and say how that went: TLS 1.3 judges a caller only after its handshake."""
    with connected:
        try:
            connected.sendall(HTTP2_PREFACE)
            answer = connected.recv(9)
        except (ssl.SSLError, ConnectionError) as error:
            return getattr(error, "reason", None) or "closed"
    return "accepted" if answer[3:4] == SETTINGS_FRAME else "closed"


@contextmanager
def serving(home: Home | None, *, newest: ssl.TLSVersion | None = None) -> Iterator[str]:
    """Answer with a home's credentials, or without TLS, at the address that is yielded."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, home, newest) if home else None
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answering = threading.Thread(target=_answer, args=(listener, context))
        answering.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            answering.join()


def _answer(listener: socket.socket, context: ssl.SSLContext | None) -> None:
    while True:
        try:
            connected, _ = listener.accept()
        except OSError:
            return
        connected.settimeout(PATIENCE)
        with suppress(OSError), connected:
            if context is None:
                connected.sendall(b"220 mail.example ESMTP\r\n")
                continue
            with context.wrap_socket(connected, server_side=True) as secure:
                secure.sendall(HTTP2_SETTINGS)
                secure.recv(1)


def _context(side: int, home: Home | None, newest: ssl.TLSVersion | None) -> ssl.SSLContext:
    context = ssl.SSLContext(side)
    context.set_alpn_protocols(["h2"])
    if home is not None:
        files = IdentityFiles(home.identity)
        context.load_cert_chain(files.certificate, files.key)
    if newest is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
            context.maximum_version = newest
        context.set_ciphers("ALL:@SECLEVEL=0")
    return context
