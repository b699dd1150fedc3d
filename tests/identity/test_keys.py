"""Peer ids, names and key files."""

import re
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given
from hypothesis import strategies as st

from qkt_p2p.errors import ConfigError, NotTrustedError, UsageError
from qkt_p2p.identity.keys import (
    dns_name_of,
    encode_digest,
    generate_key,
    load_key,
    parse_federation,
    parse_spiffe_uri,
    peer_id_of,
    save_key,
    spiffe_uri,
)
from qkt_p2p.types import PeerId, parse_peer_id

PEERS = st.binary(min_size=32, max_size=32).map(lambda digest: PeerId(encode_digest(digest)))
FEDERATIONS = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,47}", fullmatch=True)


@given(PEERS)
def test_every_digest_gives_a_peer_id_and_a_dns_name_within_the_limits(peer: PeerId) -> None:
    """Base32 of any SHA-256 is a valid peer id, and its DNS name keeps to labels of 63 characters."""
    assert parse_peer_id(peer) == peer
    labels = dns_name_of(peer).split(".")
    assert all(re.fullmatch(r"[a-z0-9-]{1,63}", label) for label in labels)


@given(FEDERATIONS, PEERS)
def test_uri_round_trip(federation: str, peer: PeerId) -> None:
    """A URI names exactly the federation and the peer that it was made of."""
    assert parse_spiffe_uri(spiffe_uri(federation, peer)) == (federation, peer)


@given(st.text(max_size=200))
def test_any_other_uri_is_not_trusted(text: str) -> None:
    """Arbitrary text either is a URI that we would make, or raises NotTrustedError."""
    try:
        federation, peer = parse_spiffe_uri(text)
    except NotTrustedError:
        return
    assert spiffe_uri(federation, peer) == text


@pytest.mark.parametrize(
    "uri",
    [
        "spiffe://Fed/peer/" + "a" * 52,
        "spiffe://fed/peer/" + "a" * 51,
        "spiffe://fed/peer/" + "a" * 52 + "/x",
        "spiffe://fed/peer/" + "a" * 52 + "\n",
        "spiffe://fed:1/peer/" + "a" * 52,
        "https://fed/peer/" + "a" * 52,
        "spiffe:///peer/" + "a" * 52,
    ],
)
def test_near_misses_of_a_uri_are_not_trusted(uri: str) -> None:
    """Upper case, ports, longer paths and other schemes are refused."""
    with pytest.raises(NotTrustedError):
        parse_spiffe_uri(uri)


@pytest.mark.parametrize("name", ["", "A", "a b", "-a", "a/b", "a" * 49, "ä", "a\n"])
def test_unusable_federation_names(name: str) -> None:
    """A federation's name is a SPIFFE trust domain of at most 48 characters."""
    with pytest.raises(UsageError):
        parse_federation(name)


def test_key_round_trip_keeps_the_peer_id(tmp_path: Path) -> None:
    """A saved key is readable by its owner only, and gives the same peer id when loaded."""
    key = generate_key()
    save_key(key, tmp_path / "key.pem")
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600
    assert peer_id_of(load_key(tmp_path / "key.pem").public_key()) == peer_id_of(key.public_key())


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_may_open_is_refused(tmp_path: Path, mode: int) -> None:
    """The error names the chmod that mends it."""
    path = tmp_path / "key.pem"
    save_key(generate_key(), path)
    path.chmod(mode)
    with pytest.raises(ConfigError, match="users other than its owner") as caught:
        load_key(path)
    assert caught.value.fix == f"chmod 600 {path}"


def test_passphrases(tmp_path: Path) -> None:
    """An encrypted key opens with its passphrase alone."""
    path = tmp_path / "key.pem"
    key = generate_key()
    save_key(key, path, passphrase=b"right")
    assert load_key(path, passphrase=b"right").public_key() == key.public_key()
    with pytest.raises(ConfigError, match="passphrase is wrong") as caught:
        load_key(path, passphrase=b"wrong", fix="make another key")
    assert caught.value.fix.startswith("give the --passphrase-file with which")
    with pytest.raises(ConfigError, match="no passphrase was given") as caught:
        load_key(path)
    assert caught.value.fix.startswith("give --passphrase-file")
    save_key(key, path)
    with pytest.raises(ConfigError, match="not encrypted") as caught:
        load_key(path, passphrase=b"right")
    assert caught.value.fix.startswith("leave out --passphrase-file")


@pytest.mark.parametrize(
    "other",
    [ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP384R1())],
    ids=["ed25519", "p384"],
)
def test_other_kinds_of_keys_are_refused(
    tmp_path: Path, other: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
) -> None:
    """Only P-256 works in every TLS library that a peer may use."""
    path = tmp_path / "key.pem"
    path.touch(mode=0o600)
    path.write_bytes(
        other.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    with pytest.raises(ConfigError, match="not ECDSA P-256"):
        load_key(path)


def test_missing_and_damaged_keys(tmp_path: Path) -> None:
    """Both are configuration errors that name the file; only a missing one is ever made."""
    with pytest.raises(ConfigError, match=r"cannot read .*key\.pem") as caught:
        load_key(tmp_path / "key.pem", fix="make one")
    assert caught.value.fix == "make one"
    (tmp_path / "key.pem").touch(mode=0o600)
    with pytest.raises(ConfigError, match="it is damaged") as caught:
        load_key(tmp_path / "key.pem", fix="make one")
    assert caught.value.fix == "restore the file from a copy"
