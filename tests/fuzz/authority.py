"""One federation whose keys are always the same, so that inputs that were kept stay meaningful."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from unittest.mock import patch

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import Certificate, load_pem_x509_certificate

from qkt_p2p.identity import authority as authorities
from qkt_p2p.identity.authority import Authority, IssuedCertificate, create_authority, sign_request
from qkt_p2p.identity.certificates import create_request
from qkt_p2p.identity.keys import PrivateKey

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
_SIGNED_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
_SEQUENCE, _BIT_STRING = b"\x30", b"\x03"


def key(number: int) -> PrivateKey:
    """Return the P-256 key of that number."""
    return ec.derive_private_key(number, ec.SECP256R1())


AUTHORITY_KEY, MEMBER_KEY = key(1001), key(1002)


@cache
def authority() -> Authority:
    """Return the authority; only its signatures and serial number differ from run to run."""
    with (
        patch.object(authorities, "generate_key", lambda: AUTHORITY_KEY),
        patch("secrets.token_hex", lambda _: "00000000"),
    ):
        return create_authority("fed", now=NOW - timedelta(days=30))


@cache
def member() -> IssuedCertificate:
    """Return a member's certificate with everything that one can have."""
    request = create_request(MEMBER_KEY)
    return sign_request(authority(), request, name="Ward 7", roles=["teacher", "hospital"], now=NOW)


def certificate(pem: bytes) -> Certificate:
    """Return the first certificate in PEM text."""
    return load_pem_x509_certificate(pem)


def signed(content: bytes, signer: PrivateKey) -> bytes:
    """Return DER of `content` with its signature, as certificates, requests and lists all are.

    So a change of the content is no damage: it is what a holder of the key might sign.
    """
    signature = signer.sign(content, ec.ECDSA(hashes.SHA256()))
    return _element(_SEQUENCE, content + _SIGNED_WITH_SHA256 + _element(_BIT_STRING, b"\x00" + signature))


def _element(tag: bytes, content: bytes) -> bytes:
    size = len(content)
    digits = size.to_bytes((size.bit_length() + 7) // 8 or 1, "big")
    return tag + (digits if size < 0x80 else bytes([0x80 | len(digits)]) + digits) + content
