"""Members with certificates that their authority should not have signed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from qkt_p2p.identity.authority import Authority
from qkt_p2p.identity.certificates import encode_certificate
from qkt_p2p.identity.keys import load_key
from qkt_p2p.identity.trust import Identity
from tests.transport.members import join


def forge(
    authority: Authority,
    home: Path,
    *,
    uris: Sequence[str],
    hosts: Sequence[str] = (),
    begin: timedelta = timedelta(hours=-1),
    end: timedelta = timedelta(hours=1),
) -> Identity:
    """Return a member whose certificate names `uris` and `hosts`, valid from `begin` to `end` from now on."""
    honest = join(authority, home)
    key = load_key(honest.files.key)
    now = datetime.now(UTC)
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in uris]
    names += [x509.DNSName(host) for host in hosts]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, honest.peer_id)]))
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begin)
        .not_valid_after(now + end)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    chain = encode_certificate(certificate)
    honest.files.certificate.write_bytes(chain)
    return replace(honest, certificate_chain=chain)
