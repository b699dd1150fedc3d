"""The authority's side of TLS while machines join: its certificate, and how a joining machine knows it.

A joining machine trusts nobody yet. It takes the certificate that the server shows, opens a channel on
which only the holder of exactly this certificate can answer, asks for the roots, and goes on only where
the root of its token signed this certificate.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from qkt_p2p.errors import NotTrustedError
from qkt_p2p.identity.authority import Leaf, sign_leaf
from qkt_p2p.identity.certificates import (
    encode_certificate,
    is_issued_by,
    is_root,
    parse_certificates,
    root_fingerprint,
)
from qkt_p2p.identity.inspection import (
    extension_of,
    federation_of_root,
    may_issue,
    uris_of,
    validity_problems,
)
from qkt_p2p.identity.keys import encode_key, federation_uri, generate_key
from qkt_p2p.identity.naming import subject_of

if TYPE_CHECKING:
    from qkt_p2p.identity.authority import Authority

ENROLLMENT_DNS_NAME: Final = "enrollment.qkt.internal"
"""The DNS name of every authority's enrolment service; it resolves nowhere, and no member has it."""

SERVICE_LIFETIME: Final = timedelta(days=7)
"""Validity of the service's certificate; its key lives in the memory of the serving process only."""


@dataclass(frozen=True, slots=True)
class ServiceCertificate:
    """What an enrolment service shows: its key and certificate, PEM, and when to replace both."""

    key: bytes = field(repr=False)
    certificate: bytes
    due: datetime


def create_service_certificate(authority: Authority, *, now: datetime | None = None) -> ServiceCertificate:
    """Make a key and a certificate that says that its holder enrols members; it is no member's."""
    begin = now or datetime.now(UTC)
    key = generate_key()
    leaf = Leaf(
        key.public_key(),
        subject_of("QKT enrollment", ()),
        enrollment_uri(authority.federation),
        ENROLLMENT_DNS_NAME,
    )
    certificate = sign_leaf(
        authority, leaf, usages=[ExtendedKeyUsageOID.SERVER_AUTH], now=begin, lifetime=SERVICE_LIFETIME
    )
    return ServiceCertificate(encode_key(key), encode_certificate(certificate), begin + SERVICE_LIFETIME / 2)


def enrollment_uri(federation: str) -> str:
    """Return the URI that names a federation's enrolment service; `parse_spiffe_uri` takes it for no peer."""
    return f"{federation_uri(federation)}/enrollment"


def check_service(certificate: bytes, roots: bytes, *, federation: str, root: str, now: datetime) -> None:
    """Raise NotTrustedError unless `certificate` is the enrolment service's of the token's federation.

    `certificate` (one) and `roots` are PEM and come from whoever answered; `root` is the token's
    fingerprint, `now` is aware. Says which of the two sides to look at.
    """
    leaf = parse_certificates(certificate, "the enrolment service's certificate")[0]
    offered = {root_fingerprint(each): each for each in parse_certificates(roots, "the roots")}
    trusted = offered.get(root)
    if trusted is None:
        raise NotTrustedError(
            f"whoever answers has root {' or '.join(offered)}, the token says {root}: "
            "it is not the authority that made the token",
            fix="ask the authority's owner for a new token, and compare the root's fingerprint",
        )
    problems = _service_problems(leaf, federation) + validity_problems(
        leaf, now, what="the enrolment service's certificate"
    )
    problems += validity_problems(trusted, now, what="the federation's root certificate")
    if not is_root(trusted) or federation_of_root(trusted) != federation:
        problems.append(f"the token's root is no root of federation {federation!r}")
    if not is_issued_by(leaf, trusted):
        problems.append("the certificate of whoever answers is not signed by the token's root")
    if problems:
        raise NotTrustedError("; ".join(problems))


def prove(secret: bytes, request: bytes) -> bytes:
    """Return the proof that whoever made `request` (DER) holds an invitation's secret: 32 bytes."""
    return hmac.digest(secret, request, hashlib.sha256)


def is_proven(proof: bytes, secret: bytes, request: bytes) -> bool:
    """Return whether `proof` is what `prove` makes, in a time that tells nothing about the secret."""
    return hmac.compare_digest(proof, prove(secret, request))


def _service_problems(leaf: x509.Certificate, federation: str) -> list[str]:
    """Say what keeps a certificate from being an enrolment service's."""
    names = extension_of(leaf, x509.SubjectAlternativeName)
    hosts = names.get_values_for_type(x509.DNSName) if names else []
    usages = extension_of(leaf, x509.ExtendedKeyUsage)
    is_service = (
        uris_of(leaf) == [enrollment_uri(federation)]
        and hosts == [ENROLLMENT_DNS_NAME]
        and usages is not None
        and ExtendedKeyUsageOID.SERVER_AUTH in usages
        and not may_issue(leaf)
    )
    if is_service:
        return []
    return [f"whoever answers shows a certificate that is not of the enrolment service of {federation!r}"]
