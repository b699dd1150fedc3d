"""What an authority signs, and what it does not."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from qkt_p2p.errors import ConfigError, NotTrustedError, UsageError
from qkt_p2p.identity.authority import (
    create_authority,
    load_authority,
    save_authority,
    sign_request,
)
from qkt_p2p.identity.certificates import create_request
from qkt_p2p.identity.keys import dns_name_of, generate_key, peer_id_of, save_key, spiffe_uri

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
AUTHORITY = create_authority("fed", now=NOW)


def request_of(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, *names: x509.GeneralName
) -> x509.CertificateSigningRequest:
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody else")])
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256())


def test_names_in_a_request_are_ignored() -> None:
    """Whoever asks for another peer's names gets the names of the own key, and only those."""
    key, victim = generate_key(), peer_id_of(generate_key().public_key())
    asked = request_of(
        key, x509.UniformResourceIdentifier(spiffe_uri("fed", victim)), x509.DNSName(dns_name_of(victim))
    )
    issued = sign_request(AUTHORITY, asked.public_bytes(serialization.Encoding.DER), now=NOW)
    certificate = x509.load_pem_x509_certificate(issued.chain)
    peer = peer_id_of(key.public_key())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [
        x509.UniformResourceIdentifier(spiffe_uri("fed", peer)),
        x509.DNSName(dns_name_of(peer)),
    ]
    assert certificate.subject.rfc4514_string() == f"CN=peer {peer[:8]}"


def test_validity_begins_in_the_past_and_lasts_ninety_days() -> None:
    """Machines whose clocks are up to five minutes behind accept a fresh certificate."""
    issued = sign_request(AUTHORITY, create_request(generate_key()), now=NOW)
    certificate = x509.load_pem_x509_certificate(issued.chain)
    assert certificate.not_valid_before_utc == NOW - timedelta(minutes=5)
    assert certificate.not_valid_after_utc == issued.not_after == NOW + timedelta(days=90)


def test_serial_numbers_and_root_names_are_unique() -> None:
    """Certificates of one key differ in serial number, roots of one federation in name."""
    request = create_request(generate_key())
    first, second = (
        x509.load_pem_x509_certificate(sign_request(AUTHORITY, request, now=NOW).chain) for _ in range(2)
    )
    assert first.serial_number != second.serial_number
    assert create_authority("fed").certificate.subject != AUTHORITY.certificate.subject


@pytest.mark.parametrize(
    "key",
    [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)],
    ids=["p384", "rsa"],
)
def test_requests_of_other_keys_are_refused(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
    """The federation has one kind of key."""
    with pytest.raises(NotTrustedError, match="not of an ECDSA P-256 key"):
        sign_request(AUTHORITY, request_of(key).public_bytes(serialization.Encoding.PEM))


def test_a_request_signed_by_another_key_is_refused() -> None:
    """Whoever asks must hold the key."""
    der = bytearray(request_of(generate_key()).public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    with pytest.raises(NotTrustedError, match="not signed by its own key"):
        sign_request(AUTHORITY, bytes(der))


@pytest.mark.parametrize(
    "data", [b"", b"-----BEGIN CERTIFICATE REQUEST-----\n", b"\x30\x00", AUTHORITY.roots]
)
def test_what_is_no_request_is_refused(data: bytes) -> None:
    """Nothing but a request is signed."""
    with pytest.raises(NotTrustedError, match="cannot be read: that is none") as caught:
        sign_request(AUTHORITY, data)
    assert "identity/request.pem" in caught.value.fix


@pytest.mark.parametrize("passphrase", [None, b"secret"])
def test_an_authority_survives_a_round_trip(tmp_path: Path, passphrase: bytes | None) -> None:
    """A loaded authority is the same, with or without a passphrase on its key."""
    save_authority(AUTHORITY, tmp_path / "ca", passphrase=passphrase)
    loaded = load_authority(tmp_path / "ca", passphrase=passphrase)
    assert (loaded.federation, loaded.fingerprint, loaded.roots) == (
        "fed",
        AUTHORITY.fingerprint,
        AUTHORITY.roots,
    )


def test_an_authority_is_never_replaced(tmp_path: Path) -> None:
    """A second authority in the same directory is refused and the first one kept."""
    save_authority(AUTHORITY, tmp_path)
    with pytest.raises(ConfigError, match="holds an authority already"):
        save_authority(create_authority("other"), tmp_path)
    assert load_authority(tmp_path).federation == "fed"


def test_a_key_of_another_root_is_refused(tmp_path: Path) -> None:
    """Root and key must belong together."""
    save_authority(AUTHORITY, tmp_path)
    save_key(generate_key(), tmp_path / "authority.key.pem")
    with pytest.raises(ConfigError, match="is not the key of"):
        load_authority(tmp_path)


def test_missing_authority_and_unusable_name(tmp_path: Path) -> None:
    """Both say what to type."""
    with pytest.raises(ConfigError) as missing:
        load_authority(tmp_path)
    assert "qkt-node ca init" in missing.value.fix
    with pytest.raises(UsageError, match="not a federation name"):
        create_authority("No Such Name")


@pytest.mark.parametrize("name", ["authority.key.pem", "authority.pem"])
def test_an_authority_of_which_a_file_is_missing_is_not_to_be_founded_anew(tmp_path: Path, name: str) -> None:
    """Another root would part the members from those that join later."""
    save_authority(AUTHORITY, tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ConfigError, match=rf"cannot read .*{name}") as caught:
        load_authority(tmp_path)
    assert "ca init" not in caught.value.fix
    assert "restore it from the copy" in caught.value.fix


def test_keys_are_not_shown() -> None:
    """The representation of an authority, as in a log, tells nothing of its key."""
    assert "key" not in repr(AUTHORITY)
