"""Requests and certificate chains: made, parsed, and looked at for why they would be refused.

TLS refuses a certificate without telling its holder why, so a node asks `diagnose` before it dials.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from qkt_p2p.commands import command
from qkt_p2p.errors import NotTrustedError
from qkt_p2p.identity.inspection import (
    UNREADABLE,
    CertificateFacts,
    extension_of,
    facts_of,
    federation_of_root,
    may_issue,
    validity_problems,
)
from qkt_p2p.identity.keys import PrivateKey, PublicKey, fingerprint_of, is_p256, peer_id_of
from qkt_p2p.limits import MAX_PEERS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

MAX_CERTIFICATES: Final = 16
"""Certificates in one file: a chain of three, and roots old and new."""

REQUEST_WANTED: Final = "give the identity/request.pem of a node's home"
BUNDLE_WANTED: Final = (
    f"give the file that the authority wrote with: {command('ca', 'sign', 'REQUEST', '--home', 'CA_DIR')}"
)
"""What people are told who gave another file."""

MAX_INTERMEDIATES: Final = 3
"""Authorities between a member and its root: an organization's policy, issuing and site authority."""


def create_request(key: PrivateKey) -> bytes:
    """Return a PKCS #10 request for a certificate of `key`, PEM, signed by it."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, peer_id_of(key.public_key()))])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM)


def parse_request(data: bytes) -> PublicKey:
    """Return the key for which a request (PEM or DER) asks; its holder signed it.

    Raises NotTrustedError where the request is damaged, not signed by its own key, or not of a P-256 key.
    """
    request = _load_request(data)
    try:
        public_key, signed = request.public_key(), request.is_signature_valid
    except UNREADABLE as error:
        raise _unreadable_request() from error
    if not is_p256(public_key):
        raise NotTrustedError("the certificate request is not of an ECDSA P-256 key")
    if not signed:
        raise NotTrustedError("the certificate request is not signed by its own key")
    return public_key


def request_der(request: bytes) -> bytes:
    """Return a request (PEM or DER) in DER; raises NotTrustedError where it cannot be read."""
    return _load_request(request).public_bytes(serialization.Encoding.DER)


def parse_certificates(pem: bytes, what: str, *, fix: str = "") -> list[x509.Certificate]:
    """Return at least one certificate from PEM text; raises NotTrustedError that names `what` was read.

    `fix` is what its owner is to give instead.
    """
    try:
        certificates = x509.load_pem_x509_certificates(pem)
        for each in certificates:
            # Names are read when they are looked at, and looked at in many places.
            _ = each.subject, each.issuer
    except UNREADABLE as error:
        raise NotTrustedError(f"{what} holds no readable PEM certificate", fix=fix) from error
    if len(certificates) > MAX_CERTIFICATES:
        raise NotTrustedError(
            f"{what} holds {len(certificates)} certificates, over {MAX_CERTIFICATES}", fix=fix
        )
    return certificates


def encode_certificate(certificate: x509.Certificate) -> bytes:
    """Return the certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def is_root(certificate: x509.Certificate) -> bool:
    """Return whether a certificate is an authority's that is signed by itself."""
    return may_issue(certificate) and is_issued_by(certificate, certificate)


def split_bundle(bundle: bytes) -> tuple[bytes, bytes]:
    """Split one PEM file into (chain, roots): roots are the authorities' that are signed by themselves.

    Raises NotTrustedError where one of the two is missing.
    """
    certificates = parse_certificates(bundle, "the bundle", fix=BUNDLE_WANTED)
    roots = [each for each in certificates if is_root(each)]
    chain = [each for each in certificates if each not in roots]
    if not roots or not chain:
        missing = "root certificate" if chain else "member's certificate"
        raise NotTrustedError(f"the bundle holds no {missing}", fix=BUNDLE_WANTED)
    return b"".join(map(encode_certificate, chain)), b"".join(map(encode_certificate, roots))


def inspect_chain(chain: bytes) -> CertificateFacts:
    """Read the first certificate of a PEM chain; raises NotTrustedError where that is impossible."""
    return facts_of(parse_certificates(chain, "the certificate")[0])


@functools.lru_cache(maxsize=MAX_PEERS)
def facts_of_pem(certificate: bytes) -> CertificateFacts:
    """Read one certificate in PEM, as TLS shows the caller's with every call; raises NotTrustedError.

    Remembers the answers, which never change, because every call asks.
    """
    return inspect_chain(certificate)


def root_fingerprint(certificate: x509.Certificate) -> str:
    """Return the fingerprint of a root's key; raises NotTrustedError where that cannot be read."""
    try:
        return fingerprint_of(certificate.public_key())
    except UNREADABLE as error:
        raise NotTrustedError(f"a root certificate has an unreadable key: {error}") from error


def root_fingerprints(roots: bytes) -> list[str]:
    """Return the fingerprint of every root in PEM text, in order; raises NotTrustedError."""
    return [root_fingerprint(each) for each in parse_certificates(roots, "the roots")]


def diagnose(chain: bytes, roots: bytes, *, key: PrivateKey, now: datetime) -> list[str]:
    """Return a sentence for each reason why peers that trust `roots` would refuse this certificate and key.

    `chain` (the member's first) and `roots` are PEM; `now` is aware. An empty list means that a
    handshake with this certificate works.
    """
    try:
        certificates = parse_certificates(chain, "the certificate file")
        facts = facts_of(certificates[0])
        problems = list(facts.problems)
        if facts.peer_id != peer_id_of(key.public_key()):
            problems.append(
                f"the certificate is of the key of peer {facts.peer_id}, "
                f"and this home's key is that of peer {peer_id_of(key.public_key())}"
            )
        problems += validity_problems(certificates[0], now, what="the certificate")
        problems += _issuer_problems(
            certificates, parse_certificates(roots, "the roots file"), now, facts=facts
        )
    except NotTrustedError as error:
        return [error.message]
    return problems


def _load_request(data: bytes) -> x509.CertificateSigningRequest:
    load = x509.load_pem_x509_csr if b"-----BEGIN" in data else x509.load_der_x509_csr
    try:
        return load(data)
    except UNREADABLE as error:
        raise _unreadable_request() from error


def _unreadable_request() -> NotTrustedError:
    return NotTrustedError(
        "the certificate request cannot be read: that is none, or a damaged one", fix=REQUEST_WANTED
    )


def _issuer_problems(
    chain: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    now: datetime,
    *,
    facts: CertificateFacts,
) -> list[str]:
    """Walk from the member's certificate up to a root and say what stops a verifier on the way."""
    trusted = sorted({federation_of_root(each) for each in roots} - {""})
    if len(trusted) > 1:
        return [f"the roots are of several federations: {', '.join(trusted)}"]
    certificate = chain[0]
    problems: list[str] = []
    for below in range(MAX_INTERMEDIATES + 1):
        root = _issuer_of(certificate, roots)
        issuer, what = root, "the federation's root certificate"
        if issuer is None:
            issuer, what = _issuer_of(certificate, chain[1:]), "the intermediate certificate"
        if issuer is None:
            break
        problems += validity_problems(issuer, now, what=what)
        problems += _length_problems(issuer, below, what=what)
        if root is not None:
            return problems + _federation_problems(facts, trusted)
        certificate = issuer
    return [*problems, _distrust(facts, trusted, roots)]


def _length_problems(issuer: x509.Certificate, below: int, *, what: str) -> list[str]:
    """Say whether an authority may have fewer intermediates below it than it has (RFC 5280, 4.2.1.9)."""
    constraints = extension_of(issuer, x509.BasicConstraints)
    allowed = constraints.path_length if constraints else None
    if allowed is None or below <= allowed:
        return []
    return [f"{what} allows {allowed} intermediates below it (path length), and the chain has {below}"]


def _federation_problems(facts: CertificateFacts, trusted: Sequence[str]) -> list[str]:
    """Say whether the root names another federation than the certificate; a root may name none."""
    if not trusted or facts.federation in trusted:
        return []
    return [f"the certificate names federation {facts.federation!r}, its root {trusted[0]!r}"]


def _distrust(facts: CertificateFacts, trusted: Sequence[str], roots: Sequence[x509.Certificate]) -> str:
    issuer = facts.issuer_fingerprint or "unknown"
    federation = f"federation {trusted[0]!r}, " if trusted else ""
    own = " or ".join(map(root_fingerprint, roots))
    return (
        f"the certificate is of federation {facts.federation!r}, signed by authority {issuer}; "
        f"trusted here is {federation}authority {own}"
    )


def _issuer_of(
    certificate: x509.Certificate, candidates: Sequence[x509.Certificate]
) -> x509.Certificate | None:
    for candidate in candidates:
        if may_issue(candidate) and is_issued_by(certificate, candidate):
            return candidate
    return None


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Return whether `issuer` signed `certificate` and is named as its issuer."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except UNREADABLE:
        return False
    return True
