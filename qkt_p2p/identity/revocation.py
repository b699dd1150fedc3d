"""Revocation lists: which certificates and peers are no longer members, signed and versioned.

A list is an X.509 CRL (RFC 5280): a standard, which an organization's own authorities make too, and
which names its version (CRL number). Our authorities also write the peer's id into each entry, because
a certificate that they do not remember, or that was renewed elsewhere, has the same key: a peer id
revokes the key. There is one list for each authority, and a list never gives way to an older one. A
list does not age: an authority may be offline for years, so its date of next update is not looked at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from qkt_p2p.errors import NotTrustedError
from qkt_p2p.identity.certificates import (
    MAX_INTERMEDIATES,
    encode_certificate,
    is_issued_by,
    parse_certificates,
)
from qkt_p2p.identity.inspection import UNREADABLE, extension_of, may_issue
from qkt_p2p.identity.keys import decode_digest, encode_digest, key_digest
from qkt_p2p.limits import MAX_REVOCATION_BYTES
from qkt_p2p.types import PeerId

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from qkt_p2p.identity.authority import Authority
    from qkt_p2p.identity.inspection import CertificateFacts

PEER_ID_OID: Final = x509.ObjectIdentifier("2.25.245894031475318338002112364979338777819")
"""Entry extension of a list: the 32 bytes of a peer id as an OCTET STRING. The number is a random UUID."""

REASONS: Final = {
    "unspecified": x509.ReasonFlags.unspecified,
    "key-compromise": x509.ReasonFlags.key_compromise,
    "affiliation-changed": x509.ReasonFlags.affiliation_changed,
    "superseded": x509.ReasonFlags.superseded,
    "cessation-of-operation": x509.ReasonFlags.cessation_of_operation,
    "privilege-withdrawn": x509.ReasonFlags.privilege_withdrawn,
}
"""Why a peer is revoked, as RFC 5280 (5.3.1) counts the reasons."""

LIST_WANTED: Final = "give the authority/revoked.pem of the authority"
"""What people are told who gave another file."""

_OCTETS: Final = b"\x04\x20"
"""DER of "an OCTET STRING of 32 bytes follows"."""

_LIST: Final = re.compile(rb"-----BEGIN X509 CRL-----[^-]*-----END X509 CRL-----")
_CERTIFICATE: Final = re.compile(rb"-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----")


@dataclass(frozen=True, slots=True)
class Revoked:
    """One entry: a certificate's serial number, its holder (None in lists of other makers), why and when."""

    serial: int
    peer_id: PeerId | None
    reason: str
    revoked_at: datetime


@dataclass(frozen=True, slots=True)
class RevocationList:
    """One authority's list, verified. `issuer` is its name in DER; `pem` has its intermediates too."""

    issuer: bytes
    version: int
    issued_at: datetime
    entries: tuple[Revoked, ...]
    pem: bytes = field(repr=False)
    _serials: frozenset[int] = field(repr=False)
    _peers: frozenset[PeerId] = field(repr=False)

    def revokes(self, facts: CertificateFacts) -> bool:
        """Return whether the certificate, or its key under any certificate, is revoked."""
        return facts.peer_id in self._peers or (facts.issuer == self.issuer and facts.serial in self._serials)

    def names(self, peer: PeerId) -> bool:
        """Return whether the peer is revoked whatever its certificate."""
        return peer in self._peers


def parse_revocation_lists(
    pem: bytes, roots: bytes, *, skip_unknown: bool = False
) -> tuple[RevocationList, ...]:
    """Return the lists in PEM text, every one signed by one of `roots` or by an intermediate of one.

    The intermediates' certificates stand in the same text. Raises NotTrustedError where anything is
    malformed, oversized, not a complete list, without a number, or not signed by whom it must; lists of
    authorities that are unknown here are only skipped on demand.
    """
    if len(pem) > MAX_REVOCATION_BYTES:
        raise NotTrustedError(f"the revocation lists have {len(pem)} bytes, over {MAX_REVOCATION_BYTES}")
    blocks = _LIST.findall(pem)
    if not blocks:
        raise NotTrustedError("there is no PEM revocation list (X509 CRL) in it", fix=LIST_WANTED)
    trusted = parse_certificates(roots, "the roots")
    inside = _CERTIFICATE.findall(pem)
    others = parse_certificates(b"\n".join(inside), "the revocation list") if inside else []
    lists = []
    for block in blocks:
        found = _load(block)
        signers = _signers_of(found, trusted, others)
        if signers:
            lists.append(_read(found, block, signers))
        elif not skip_unknown:
            raise NotTrustedError(
                f"the revocation list of {found.issuer.rfc4514_string()[:120]!r} is not of an authority "
                "that is trusted here",
                fix="where an intermediate authority signed it, append its certificate to the file",
            )
    return tuple(lists)


def sign_revocation_list(
    authority: Authority, previous: RevocationList | None, added: Sequence[Revoked], *, now: datetime
) -> RevocationList:
    """Return the authority's next list: what the previous one holds, and `added`; raises NotTrustedError."""
    entries = {each.serial: each for each in (*(previous.entries if previous else ()), *added)}
    root = authority.certificate
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(root.subject)
        .last_update(now)
        .next_update(max(root.not_valid_after_utc, now))
        .add_extension(x509.CRLNumber(previous.version + 1 if previous else 1), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier(key_digest(root.public_key()), None, None), critical=False)
    )
    for each in entries.values():
        builder = builder.add_revoked_certificate(_entry(each))
    signed = builder.sign(authority.key, hashes.SHA256())
    return parse_revocation_lists(signed.public_bytes(serialization.Encoding.PEM), authority.roots)[0]


def _entry(revoked: Revoked) -> x509.RevokedCertificate:
    builder = x509.RevokedCertificateBuilder().serial_number(revoked.serial)
    builder = builder.revocation_date(revoked.revoked_at)
    builder = builder.add_extension(x509.CRLReason(REASONS[revoked.reason]), critical=False)
    if revoked.peer_id is not None:
        value = x509.UnrecognizedExtension(PEER_ID_OID, _OCTETS + decode_digest(revoked.peer_id))
        builder = builder.add_extension(value, critical=False)
    return builder.build()


def _load(block: bytes) -> x509.CertificateRevocationList:
    try:
        found = x509.load_pem_x509_crl(block)
        found.issuer.public_bytes()
    except UNREADABLE as error:
        raise NotTrustedError(f"the revocation list cannot be read: {error}") from error
    return found


def _read(
    found: x509.CertificateRevocationList, block: bytes, signers: Sequence[x509.Certificate]
) -> RevocationList:
    """Return what a list says that the first of `signers` signed; the last is a root."""
    try:
        critical = [each.oid.dotted_string for each in found.extensions if each.critical]
        number = found.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        # Whoever signs for some of the members only must not name peers of others.
        entries = tuple(_read_entry(each, with_peer=len(signers) == 1) for each in found)
        issuer, issued_at = found.issuer.public_bytes(), found.last_update_utc
    except x509.ExtensionNotFound as error:
        raise NotTrustedError("the revocation list has no number, so nobody can tell old from new") from error
    except UNREADABLE as error:
        raise NotTrustedError(f"the revocation list cannot be read: {error}") from error
    if critical:
        raise NotTrustedError(f"the revocation list is only a part of one (critical extension {critical[0]})")
    pem = block.strip() + b"\n" + b"".join(map(encode_certificate, signers[:-1]))
    peers = frozenset(each.peer_id for each in entries if each.peer_id is not None)
    return RevocationList(
        issuer, number, issued_at, entries, pem, frozenset(each.serial for each in entries), peers
    )


def _signers_of(
    found: x509.CertificateRevocationList,
    roots: Sequence[x509.Certificate],
    others: Sequence[x509.Certificate],
) -> list[x509.Certificate]:
    """Return the list's authority and those above it up to a root; none where no root is above it.

    Raises NotTrustedError where it bears the name of an authority that did not sign it.
    """
    known = (*roots, *others)
    chains = [_chain_above(each, roots, known) for each in known if each.subject == found.issuer]
    chains = [chain for chain in chains if chain]
    for chain in chains:
        if _is_signed_by(found, chain[0]):
            return chain
    if chains:
        raise NotTrustedError("the revocation list is not signed by the authority that it names")
    return []


def _chain_above(
    certificate: x509.Certificate, roots: Sequence[x509.Certificate], known: Sequence[x509.Certificate]
) -> list[x509.Certificate]:
    """Return the certificate and its issuers up to a root, or nothing."""
    chain = [certificate]
    for _ in range(MAX_INTERMEDIATES + 1):
        if chain[-1] in roots:
            return chain
        chain += [each for each in known if may_issue(each) and is_issued_by(chain[-1], each)][:1]
    return []


def _is_signed_by(found: x509.CertificateRevocationList, signer: x509.Certificate) -> bool:
    usage = extension_of(signer, x509.KeyUsage)
    if usage is None or not usage.crl_sign or not may_issue(signer):
        return False
    try:
        key = signer.public_key()
        return isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey) and found.is_signature_valid(key)
    except UNREADABLE:
        return False


def _read_entry(entry: x509.RevokedCertificate, *, with_peer: bool) -> Revoked:
    reason, peer = "unspecified", None
    for extension in entry.extensions:
        value = extension.value
        if isinstance(value, x509.CRLReason):
            reason = _reason_of(value)
        elif isinstance(value, x509.UnrecognizedExtension) and value.oid == PEER_ID_OID and with_peer:
            peer = _peer_of(value.value)
        elif extension.critical:
            raise NotTrustedError(f"an entry of the revocation list needs {extension.oid.dotted_string}")
    return Revoked(entry.serial_number, peer, reason, entry.revocation_date_utc)


def _peer_of(value: bytes) -> PeerId:
    if len(value) != len(_OCTETS) + 32 or not value.startswith(_OCTETS):
        raise NotTrustedError("an entry of the revocation list names no peer where it should")
    return PeerId(encode_digest(value[len(_OCTETS) :]))


def _reason_of(value: x509.CRLReason) -> str:
    return next((name for name, flag in REASONS.items() if flag is value.reason), "unspecified")
