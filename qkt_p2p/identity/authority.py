"""A federation's authority: the self-signed root that vouches for its members."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from qkt_p2p.commands import command
from qkt_p2p.errors import ConfigError
from qkt_p2p.identity.certificates import encode_certificate, parse_certificates, parse_request
from qkt_p2p.identity.files import load_file, make_private_directory, save_file
from qkt_p2p.identity.inspection import federation_of_root
from qkt_p2p.identity.keys import (
    PrivateKey,
    PublicKey,
    dns_name_of,
    federation_uri,
    fingerprint_of,
    generate_key,
    key_digest,
    load_key,
    parse_federation,
    peer_id_of,
    save_key,
    spiffe_uri,
)
from qkt_p2p.identity.naming import default_name, parse_member_name, parse_roles, subject_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

    from qkt_p2p.types import PeerId

ROOT_DAYS: Final = 3650
"""Validity of a root: it is replaced by hand, in every home of the federation."""

CERTIFICATE_LIFETIME: Final = timedelta(days=90)
"""Validity of a member's certificate, unless its authority's owner says otherwise."""

CLOCK_SKEW: Final = timedelta(minutes=5)
"""Certificates begin this long before they are made, for machines whose clocks are behind."""

KEY_FILE: Final = "authority.key.pem"
ROOT_FILE: Final = "authority.pem"
_ELSEWHERE: Final = (
    "give the --home of the authority; where there is none yet: "
    f"{command('ca', 'init', '--home', 'DIR', '--federation', 'NAME')}"
)


@dataclass(frozen=True, slots=True)
class Authority:
    """The holder of a federation's root key."""

    federation: str
    certificate: x509.Certificate
    key: PrivateKey = field(repr=False)
    other_roots: bytes = field(default=b"", repr=False)

    @property
    def fingerprint(self) -> str:
        """By which people compare roots: 52 characters."""
        return fingerprint_of(self.key.public_key())

    @property
    def roots(self) -> bytes:
        """What members trust: the own root first, then the others, PEM."""
        return encode_certificate(self.certificate) + self.other_roots


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """What an authority hands to a new member: the certificate chain and the roots, both PEM."""

    peer_id: PeerId
    name: str
    roles: tuple[str, ...]
    serial: int
    not_after: datetime
    chain: bytes
    roots: bytes

    @property
    def bundle(self) -> bytes:
        """One PEM file with everything that `join` needs."""
        return self.chain + self.roots


def create_authority(federation: str, *, now: datetime | None = None) -> Authority:
    """Found a federation: a fresh key and its self-signed root; raises UsageError for an unusable name.

    Roots carry a random suffix, because OpenSSL-like verifiers look issuers up by name: of several
    roots with one name only one would be found.
    """
    parse_federation(federation)
    key = generate_key()
    begin = now or datetime.now(UTC)
    common_name = f"QKT {federation} {secrets.token_hex(4)}"
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = _builder(name, name, key.public_key())
    builder = builder.not_valid_before(begin - CLOCK_SKEW).not_valid_after(begin + timedelta(days=ROOT_DAYS))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
    builder = builder.add_extension(_key_usage(authority=True), critical=True)
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(federation_uri(federation))])
    builder = builder.add_extension(names, critical=False)
    return Authority(federation, builder.sign(key, hashes.SHA256()), key)


def save_authority(authority: Authority, directory: Path, *, passphrase: bytes | None = None) -> None:
    """Write root and key into `directory`; raises ConfigError rather than replace an authority."""
    make_private_directory(directory)
    for name in (KEY_FILE, ROOT_FILE):
        if (directory / name).exists():
            raise ConfigError(
                f"{directory / name} exists: this directory holds an authority already",
                fix="choose another --home; replacing a root would cut off every member",
            )
    save_key(authority.key, directory / KEY_FILE, passphrase=passphrase)
    save_file(directory / ROOT_FILE, authority.roots)


def load_authority(directory: Path, *, passphrase: bytes | None = None) -> Authority:
    """Read what `save_authority` wrote; raises ConfigError, or NotTrustedError for a damaged root."""
    key = load_key(directory / KEY_FILE, passphrase=passphrase, fix=_finding(directory))
    certificate, *others = load_roots(directory)
    if key.public_key() != certificate.public_key():
        raise ConfigError(f"{directory / KEY_FILE} is not the key of {directory / ROOT_FILE}")
    other_roots = b"".join(map(encode_certificate, others))
    return Authority(federation_of_root(certificate), certificate, key, other_roots)


def load_roots(directory: Path) -> list[x509.Certificate]:
    """Read the roots that the authority in `directory` hands out, its own first; raises ConfigError."""
    path = directory / ROOT_FILE
    return parse_certificates(load_file(path, fix=_finding(directory)), str(path))


def _finding(directory: Path) -> str:
    """Return what to do where a file of an authority is missing: founding another would part its members."""
    left = [name for name in (KEY_FILE, ROOT_FILE) if (directory / name).exists()]
    return f"restore it from the copy that belongs to {directory / left[0]}" if left else _ELSEWHERE


def sign_request(
    authority: Authority,
    request: bytes,
    *,
    name: str = "",
    roles: Sequence[str] = (),
    now: datetime | None = None,
    lifetime: timedelta = CERTIFICATE_LIFETIME,
) -> IssuedCertificate:
    """Vouch for the key in a certificate request (PEM or DER), at most as long as the root lives.

    The certificate carries the `name` ("": the default one) and the `roles` that the authority gives.
    Names in the request are ignored: those that say who the member is follow from its key, so that
    nobody can ask for somebody else's. Raises NotTrustedError where the request is damaged, not signed
    by its own key, or not of a P-256 key, and UsageError for a name or role that is none.
    """
    public_key = parse_request(request)
    peer = peer_id_of(public_key)
    given, roles = parse_member_name(name or default_name(peer)), parse_roles(roles)
    certificate = sign_leaf(
        authority,
        Leaf(public_key, subject_of(given, roles), spiffe_uri(authority.federation, peer), dns_name_of(peer)),
        usages=(ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH),
        now=now,
        lifetime=lifetime,
    )
    return IssuedCertificate(
        peer_id=peer,
        name=given,
        roles=roles,
        serial=certificate.serial_number,
        not_after=certificate.not_valid_after_utc,
        chain=encode_certificate(certificate),
        roots=authority.roots,
    )


@dataclass(frozen=True, slots=True)
class Leaf:
    """Whom a certificate is about: key, subject, and the one URI and the one DNS name of it."""

    public_key: PublicKey
    subject: x509.Name
    uri: str
    dns_name: str


def sign_leaf(
    authority: Authority,
    leaf: Leaf,
    *,
    usages: Sequence[x509.ObjectIdentifier],
    now: datetime | None,
    lifetime: timedelta,
) -> x509.Certificate:
    """Return a certificate of something that is no authority, usable for `usages`."""
    begin = now or datetime.now(UTC)
    end = min(begin + lifetime, authority.certificate.not_valid_after_utc)
    names = [x509.UniformResourceIdentifier(leaf.uri), x509.DNSName(leaf.dns_name)]
    issuer = x509.AuthorityKeyIdentifier(key_digest(authority.key.public_key()), None, None)
    return (
        _builder(leaf.subject, authority.certificate.subject, leaf.public_key)
        .not_valid_before(begin - CLOCK_SKEW)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(issuer, critical=False)
        .sign(authority.key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: CertificatePublicKeyTypes
) -> x509.CertificateBuilder:
    identifier = x509.SubjectKeyIdentifier(key_digest(public_key))
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .add_extension(identifier, critical=False)
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )
