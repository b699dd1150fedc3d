"""What strangers show and members tell of themselves: tokens, certificates, requests, revocation lists."""

from __future__ import annotations

import base64
import hashlib
import ssl
from collections.abc import Sequence
from functools import cache

from cryptography import x509

from qkt_p2p.errors import NotTrustedError, UsageError
from qkt_p2p.identity.certificates import (
    create_request,
    diagnose,
    inspect_chain,
    parse_request,
    root_fingerprints,
    split_bundle,
)
from qkt_p2p.identity.enrollment import check_service, create_service_certificate
from qkt_p2p.identity.keys import encode_digest, parse_spiffe_uri, spiffe_uri
from qkt_p2p.identity.revocation import Revoked, parse_revocation_lists, sign_revocation_list
from qkt_p2p.identity.revocations import Revocations
from qkt_p2p.identity.tokens import PREFIX, Token, decode_token, encode_token
from tests.fuzz.authority import AUTHORITY_KEY, MEMBER_KEY, NOW, authority, certificate, member, signed
from tests.fuzz.formats import der, pem
from tests.fuzz.target import Target

_TOKEN = Token("fed", encode_digest(bytes(32)), "00" * 16, bytes(32), NOW, ("a.example:1", "[::1]:7448"))


def _pem(content: bytes, label: str) -> bytes:
    return f"-----BEGIN {label}-----\n{base64.b64encode(content).decode()}\n-----END {label}-----\n".encode()


def _sealed_token(payload: bytes) -> None:
    """Take a token whose checksum is right: whoever makes one up can count."""
    data = payload + hashlib.sha256(payload).digest()[:4]
    text = PREFIX + base64.urlsafe_b64encode(data).decode().rstrip("=")
    assert encode_token(decode_token(text)) == text


def _token_payload() -> bytes:
    body = encode_token(_TOKEN).removeprefix(PREFIX)
    return base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))[:-4]


def _token(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    assert encode_token(decode_token(text)) == text.strip()


def _uri(data: bytes) -> None:
    uri = data.decode("utf-8", "surrogateescape")
    assert spiffe_uri(*parse_spiffe_uri(uri)) == uri


def _request(content: bytes) -> None:
    """Take a request that its own key signed."""
    parse_request(signed(content, MEMBER_KEY))


def _certificate(content: bytes) -> None:
    """Take a member's certificate that the authority signed, whatever is in it."""
    pem = ssl.DER_cert_to_PEM_cert(signed(content, AUTHORITY_KEY)).encode()
    diagnose(pem, authority().roots, key=MEMBER_KEY, now=NOW)
    inspect_chain(pem)


def _root(content: bytes) -> None:
    """Take a root that came with a bundle, or from whoever answers on an enrolment port."""
    pem = ssl.DER_cert_to_PEM_cert(signed(content, AUTHORITY_KEY)).encode()
    diagnose(member().chain, pem, key=MEMBER_KEY, now=NOW)
    root_fingerprints(pem)
    split_bundle(member().chain + pem)
    check_service(_service_certificate(), pem, federation="fed", root=authority().fingerprint, now=NOW)


def _service(content: bytes) -> None:
    """Take the certificate that an enrolment port shows."""
    pem = ssl.DER_cert_to_PEM_cert(signed(content, AUTHORITY_KEY)).encode()
    check_service(pem, authority().roots, federation="fed", root=authority().fingerprint, now=NOW)


def _bundle(pem: bytes) -> None:
    chain, roots = split_bundle(pem)
    diagnose(chain, roots, key=MEMBER_KEY, now=NOW)
    root_fingerprints(roots)
    inspect_chain(chain)


def _revocation_list(content: bytes) -> None:
    """Take a list that a trusted authority signed; what is read of it reads the same again."""
    pem = _pem(signed(content, AUTHORITY_KEY), "X509 CRL")
    lists = Revocations().merge(parse_revocation_lists(pem, authority().roots))
    assert Revocations().merge(parse_revocation_lists(lists.pem, authority().roots)) == lists
    lists.digest.to_bytes(8, "big")
    assert all(len(peer) == 52 for peer in lists.peers)


def _revocation_text(pem: bytes) -> None:
    parse_revocation_lists(pem, authority().roots, skip_unknown=True)


def _lists() -> bytes:
    revoked = [
        Revoked(member().serial, member().peer_id, "key-compromise", NOW),
        Revoked(7, None, "superseded", NOW),
    ]
    return sign_revocation_list(authority(), None, revoked, now=NOW).pem


def _certificates() -> Sequence[bytes]:
    """Return what is signed of a member's certificate, a root and a service's."""
    shown = (member().chain, authority().roots, _service_certificate())
    return [certificate(pem).tbs_certificate_bytes for pem in shown]


@cache
def _service_certificate() -> bytes:
    return create_service_certificate(authority(), now=NOW).certificate


_BOUNDARIES = tuple(
    f"-----{edge} {label}-----".encode() for edge in ("BEGIN", "END") for label in ("CERTIFICATE", "X509 CRL")
)

TARGETS = {
    "token": Target(_token, (UsageError,), lambda: [encode_token(_TOKEN).encode()], dictionary=(b"qkt1",)),
    "token-payload": Target(
        _sealed_token, (UsageError,), lambda: [_token_payload()], dictionary=(b"a:1", b"[::1]:1")
    ),
    "uri": Target(
        _uri,
        (NotTrustedError,),
        lambda: [spiffe_uri("fed", member().peer_id).encode()],
        dictionary=(b"spiffe://", b"/peer/"),
    ),
    "request": Target(
        _request,
        (NotTrustedError,),
        lambda: [x509.load_pem_x509_csr(create_request(MEMBER_KEY)).tbs_certrequest_bytes],
        der,
    ),
    "certificate": Target(_certificate, (NotTrustedError,), _certificates, der),
    "root": Target(_root, (NotTrustedError,), _certificates, der),
    "service": Target(_service, (NotTrustedError,), _certificates, der),
    "bundle": Target(_bundle, (NotTrustedError,), lambda: [member().bundle], pem, _BOUNDARIES),
    "revocation-list": Target(
        _revocation_list,
        (NotTrustedError,),
        lambda: [x509.load_pem_x509_crl(_lists()).tbs_certlist_bytes],
        der,
    ),
    "revocation-text": Target(
        _revocation_text, (NotTrustedError,), lambda: [_lists(), _lists() + member().chain], pem, _BOUNDARIES
    ),
}
