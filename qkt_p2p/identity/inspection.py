"""What one certificate says, and what about it is not as a member's certificate must be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID

from qkt_p2p.errors import NotTrustedError, UsageError
from qkt_p2p.identity.keys import (
    dns_name_of,
    encode_digest,
    federation_uri,
    is_p256,
    parse_federation,
    parse_spiffe_uri,
    peer_id_of,
)
from qkt_p2p.identity.naming import names_in

if TYPE_CHECKING:
    from datetime import datetime

    from qkt_p2p.types import PeerId

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)

UNREADABLE: Final = (
    ValueError,
    TypeError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What `cryptography` raises for malformed data, often only when a part of it is looked at."""

_REQUIRED_USAGES: Final = {
    ExtendedKeyUsageOID.CLIENT_AUTH: "to dial peers",
    ExtendedKeyUsageOID.SERVER_AUTH: "to serve peers",
}


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """What a member's certificate says; `problems` are sentences on what no member's certificate has.

    `peer_id` follows from the key, `federation` from the URI ("" where that cannot be read),
    `issuer_fingerprint` from the authority key identifier ("" where there is none), `name` and `roles`
    from the subject. `issuer` (a name in DER) and `serial` tell it from all others. Times are UTC.
    """

    peer_id: PeerId
    federation: str
    name: str
    roles: tuple[str, ...]
    serial: int
    issuer: bytes
    not_before: datetime
    not_after: datetime
    issuer_fingerprint: str
    problems: tuple[str, ...]


def facts_of(certificate: x509.Certificate) -> CertificateFacts:
    """Read a member's certificate; raises NotTrustedError where it cannot be read at all."""
    try:
        public_key = certificate.public_key()
        issuer = extension_of(certificate, x509.AuthorityKeyIdentifier)
        peer = peer_id_of(public_key)
        federation, problems = _name_problems(certificate, peer)
        if not is_p256(public_key):
            problems.append("the certificate's key is not ECDSA P-256")
        problems += _usage_problems(certificate)
        name, roles = names_in(certificate.subject)
        issuer_name = certificate.issuer.public_bytes()
    except UNREADABLE as error:
        raise NotTrustedError(f"the certificate cannot be read: {error}") from error
    return CertificateFacts(
        peer_id=peer,
        federation=federation,
        name=name,
        roles=roles,
        serial=certificate.serial_number,
        issuer=issuer_name,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        issuer_fingerprint=encode_digest(issuer.key_identifier or b"") if issuer else "",
        problems=tuple(problems),
    )


def validity_problems(certificate: x509.Certificate, now: datetime, *, what: str) -> list[str]:
    """Say whether `certificate` has expired or is not valid yet; `what` begins the sentence."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < begin:
        return [
            f"{what} is valid only from {begin:%Y-%m-%d %H:%M} UTC on and this machine's clock says "
            f"{now:%Y-%m-%d %H:%M} UTC: check the clocks of this machine and of the authority's"
        ]
    if now > end:
        return [f"{what} expired at {end:%Y-%m-%d %H:%M} UTC (now {now:%Y-%m-%d %H:%M} UTC)"]
    return []


def may_issue(certificate: x509.Certificate) -> bool:
    """Return whether a certificate is an authority's: CA:TRUE and allowed to sign certificates."""
    constraints = extension_of(certificate, x509.BasicConstraints)
    usage = extension_of(certificate, x509.KeyUsage)
    return bool(constraints and constraints.ca and usage and usage.key_cert_sign)


def federation_of_root(certificate: x509.Certificate) -> str:
    """Return the federation that a root certificate names.

    "" where it has no URI at all, as the root of an organization that has more uses for it; raises
    NotTrustedError where its URIs are not one federation's.
    """
    uris = uris_of(certificate)
    if not uris:
        return ""
    if len(uris) == 1 and uris[0].startswith(federation_uri("")):
        try:
            return parse_federation(uris[0].removeprefix(federation_uri("")))
        except UsageError as error:
            raise NotTrustedError(f"the root certificate is of no federation: {error.message}") from error
    raise NotTrustedError(f"the root certificate names no federation (its URIs: {list(uris)})")


def uris_of(certificate: x509.Certificate) -> list[str]:
    """Return the URIs among the certificate's subject alternative names."""
    names = extension_of(certificate, x509.SubjectAlternativeName)
    return names.get_values_for_type(x509.UniformResourceIdentifier) if names else []


def extension_of(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    """Return the extension of a kind, or None; raises NotTrustedError where extensions are malformed."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
    except UNREADABLE as error:
        raise NotTrustedError(f"the certificate's extensions cannot be read: {error}") from error


def _name_problems(certificate: x509.Certificate, peer: PeerId) -> tuple[str, list[str]]:
    """Return the federation in the URI ("" where there is none), and what is wrong with the names."""
    uris = uris_of(certificate)
    if len(uris) != 1:
        return "", [f"the certificate must name exactly one URI, and names {len(uris)}"]
    try:
        federation, named = parse_spiffe_uri(uris[0])
    except NotTrustedError as error:
        return "", [f"the certificate names no peer: {error.message}"]
    problems = []
    if named != peer:
        problems.append(f"the certificate names peer {named}, but its key is that of peer {peer}")
    names = extension_of(certificate, x509.SubjectAlternativeName)
    hosts = names.get_values_for_type(x509.DNSName) if names else []
    if hosts != [dns_name_of(peer)]:
        problems.append(f"the certificate must have the DNS name {dns_name_of(peer)} alone, and has {hosts}")
    return federation, problems


def _usage_problems(certificate: x509.Certificate) -> list[str]:
    """Say for what the certificate must be usable, or must not be, and is not as it must."""
    problems = []
    if may_issue(certificate):
        problems.append("the certificate is an authority's, not a member's")
    usage = extension_of(certificate, x509.KeyUsage)
    if usage is None or not usage.digital_signature:
        problems.append("the certificate's key may not be used for signatures (key usage digitalSignature)")
    usages = extension_of(certificate, x509.ExtendedKeyUsage)
    for identifier, purpose in _REQUIRED_USAGES.items():
        if usages is None or identifier not in usages:
            problems.append(
                f"the certificate may not be used {purpose} (extended key usage {_name(identifier)})"
            )
    return problems


def _name(identifier: x509.ObjectIdentifier) -> str:
    return "clientAuth" if identifier == ExtendedKeyUsageOID.CLIENT_AUTH else "serverAuth"
