"""ECDSA P-256 keys, and the names that follow from a public key.

P-256 because gRPC's TLS finds no common signature algorithm with Ed25519 certificates.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING, Final, TypeGuard

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from qkt_p2p.errors import ConfigError, NotTrustedError, UsageError
from qkt_p2p.identity.files import load_private_file, save_file
from qkt_p2p.types import PeerId, parse_peer_id

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

PrivateKey = ec.EllipticCurvePrivateKey
PublicKey = ec.EllipticCurvePublicKey

MAX_FEDERATION_CHARACTERS: Final = 48
"""A federation's name is part of its root's common name, which X.520 limits to 64 characters."""

_FEDERATION: Final = re.compile(rf"[a-z0-9][a-z0-9._-]{{0,{MAX_FEDERATION_CHARACTERS - 1}}}")
_SPIFFE_URI: Final = re.compile(r"spiffe://([^/?#]*)/peer/([^/?#]*)")
_DNS_SUFFIX: Final = "qkt.internal"
_RESTORING: Final = "restore the file from a copy"


def generate_key() -> PrivateKey:
    """Return a fresh P-256 private key."""
    return ec.generate_private_key(ec.SECP256R1())


def is_p256(public_key: object) -> TypeGuard[PublicKey]:
    """Tell whether a public key is one that members and authorities of this software have."""
    return isinstance(public_key, PublicKey) and isinstance(public_key.curve, ec.SECP256R1)


def key_digest(public_key: PublicKeyTypes) -> bytes:
    """Return SHA-256 over the key's SubjectPublicKeyInfo in DER (RFC 7093, method 4): 32 bytes."""
    encoded = public_key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(encoded).digest()


def encode_digest(digest: bytes) -> str:
    """Return `digest` in lower-case base32 without padding: 52 characters for a SHA-256."""
    return base64.b32encode(digest).decode("ascii").rstrip("=").lower()


def decode_digest(text: str) -> bytes:
    """Return what `encode_digest` made a text of; raises ValueError for any other."""
    digest = base64.b32decode(text.upper() + "=" * (-len(text) % 8))
    if encode_digest(digest) != text:
        raise ValueError(f"{text[:80]!r} is not a digest in base32")
    return digest


def fingerprint_of(public_key: PublicKeyTypes) -> str:
    """Return the text by which people compare a key: 52 characters of a-z and 2-7."""
    return encode_digest(key_digest(public_key))


def peer_id_of(public_key: PublicKeyTypes) -> PeerId:
    """Return the peer id of the holder of `public_key`: the key's fingerprint."""
    return PeerId(fingerprint_of(public_key))


def short_fingerprint(peer: PeerId) -> str:
    """Return what two people compare a key by: its first 80 bits in groups, "abcd-efgh-ijkl-mnop"."""
    return "-".join(peer[begin : begin + 4] for begin in range(0, 16, 4))


def dns_name_of(peer: PeerId) -> str:
    """Return the DNS name by which a client asks TLS for this peer and no other; it resolves nowhere."""
    return f"{peer}.{_DNS_SUFFIX}"


def parse_federation(text: str) -> str:
    """Return `text` as a federation's name, which is its SPIFFE trust domain; raises UsageError."""
    if not _FEDERATION.fullmatch(text):
        raise UsageError(
            f"{text[:80]!r} is not a federation name",
            fix=f"use 1 to {MAX_FEDERATION_CHARACTERS} of a-z, 0-9, '.', '-', '_'; a letter or digit first",
        )
    return text


def federation_uri(federation: str) -> str:
    """Return the URI of the federation itself, as its root certificate carries it."""
    return f"spiffe://{federation}"


def spiffe_uri(federation: str, peer: PeerId) -> str:
    """Return the URI that names a peer within a federation."""
    return f"{federation_uri(federation)}/peer/{peer}"


def parse_spiffe_uri(uri: str) -> tuple[str, PeerId]:
    """Split a URI made by `spiffe_uri` into federation and peer id; raises NotTrustedError."""
    match = _SPIFFE_URI.fullmatch(uri)
    if match is None:
        raise NotTrustedError(f"the name {uri[:120]!r} is not of the form spiffe://FEDERATION/peer/PEER-ID")
    try:
        return parse_federation(match[1]), parse_peer_id(match[2])
    except UsageError as error:
        raise NotTrustedError(f"the name {uri[:120]!r} is not that of a peer: {error.message}") from error


def encode_key(key: PrivateKey, *, passphrase: bytes | None = None) -> bytes:
    """Return the key as PEM (PKCS #8), encrypted where a passphrase is given."""
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        encryption = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def save_key(key: PrivateKey, path: Path, *, passphrase: bytes | None = None) -> None:
    """Write the key to `path` as PEM, readable by its owner only."""
    save_file(path, encode_key(key, passphrase=passphrase), mode=0o600)


def load_key(path: Path, *, passphrase: bytes | None = None, fix: str = "") -> PrivateKey:
    """Read a P-256 private key; raises ConfigError for a file that is missing, open to others or damaged.

    `fix` is what to do where it is missing. One that is there is not to be made anew: others know it.
    """
    data = load_private_file(path, fix=fix)
    try:
        key = serialization.load_pem_private_key(data, passphrase)
    except TypeError as error:
        raise _passphrase_problem(path, passphrase) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        cause, mending = "it is damaged", _RESTORING
        if passphrase is not None:
            cause += ", or the passphrase is wrong"
            mending = f"give the --passphrase-file with which the key was made, or {_RESTORING}"
        raise ConfigError(f"{path} cannot be read as a PEM private key: {cause}", fix=mending) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ConfigError(f"{path} holds a key that is not ECDSA P-256", fix=_RESTORING)
    return key


def _passphrase_problem(path: Path, passphrase: bytes | None) -> ConfigError:
    if passphrase is None:
        return ConfigError(
            f"{path} is encrypted and no passphrase was given", fix="give --passphrase-file FILE"
        )
    return ConfigError(
        f"{path} is not encrypted, but a passphrase was given",
        fix="leave out --passphrase-file, and unset QKT_PASSPHRASE_FILE",
    )
