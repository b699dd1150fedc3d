"""Certificates of an organization's own authorities: any root, any signature, up to three intermediates."""

import asyncio
import contextlib
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from qkt_p2p.errors import NotTrustedError
from qkt_p2p.identity.certificates import encode_certificate
from qkt_p2p.identity.inspection import federation_of_root
from qkt_p2p.identity.keys import PublicKey, dns_name_of, load_key, peer_id_of, spiffe_uri
from qkt_p2p.identity.trust import IdentityFiles, create_identity, install_bundle, load_identity

SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
NOW = datetime.now(UTC)
FEDERATION = "hospitals.example"
RSA = rsa.generate_private_key(65537, 2048)


class OwnAuthority:
    """An authority made without this project: no URI, RSA or P-384, key identifiers by SHA-1."""

    def __init__(self, name: str, key: SigningKey, above: "OwnAuthority | None" = None, length: int = 3):
        self.key = key
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.above = above
        issuer = above or self
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(issuer.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - timedelta(days=1))
            .not_valid_after(NOW + timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=True, path_length=length), critical=True)
            .add_extension(usage(authority=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(issuer.key, hashes.SHA384())
        )

    def certify(self, public_key: PublicKey) -> x509.Certificate:
        """Sign a member's certificate."""
        peer = peer_id_of(public_key)
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Hospital"),
                x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "teacher"),
                x509.NameAttribute(NameOID.COMMON_NAME, "Ward 7"),
            ]
        )
        names = [
            x509.UniformResourceIdentifier(spiffe_uri(FEDERATION, peer)),
            x509.DNSName(dns_name_of(peer)),
        ]
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - timedelta(hours=1))
            .not_valid_after(NOW + timedelta(days=7))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self.key, hashes.SHA256())
        )


def usage(*, authority: bool) -> x509.KeyUsage:
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


def pki(intermediates: int, *, root_length: int = 3) -> list[OwnAuthority]:
    """Return an RSA root and authorities below it, each signed by the one before."""
    authorities = [OwnAuthority("Hospital Root", RSA, length=root_length)]
    for number in range(intermediates):
        key = ec.generate_private_key(ec.SECP384R1())
        authorities.append(OwnAuthority(f"Hospital CA {number}", key, authorities[-1]))
    return authorities


def join(directory: Path, authorities: list[OwnAuthority]) -> None:
    """Enrol by files: key and request made by the node, certificate by the organization."""
    create_identity(directory)
    leaf = authorities[-1].certify(load_key(IdentityFiles(directory).key).public_key())
    chain = [leaf, *(each.certificate for each in reversed(authorities))]
    install_bundle(directory, b"".join(map(encode_certificate, chain)))


@pytest.mark.parametrize("intermediates", [0, 1, 2, 3])
def test_chains_of_own_authorities_are_accepted(tmp_path: Path, intermediates: int) -> None:
    """The identity has the federation, the name and the roles that the member's certificate says."""
    join(tmp_path, pki(intermediates))
    identity = load_identity(tmp_path)
    assert identity.federation == FEDERATION
    assert identity.certificate_chain.count(b"BEGIN") == intermediates + 1
    assert identity.roots.count(b"BEGIN") == 1


async def test_members_of_own_authorities_shake_hands(tmp_path: Path) -> None:
    """OpenSSL agrees: two members below different intermediates accept each other."""
    authorities = pki(1)
    other = OwnAuthority("Hospital CA north", ec.generate_private_key(ec.SECP256R1()), authorities[0])
    join(tmp_path / "server", authorities)
    join(tmp_path / "client", [authorities[0], other])
    name = load_identity(tmp_path / "server").dns_name

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            writer.write(b"welcome")

    contexts = {}
    for side, protocol in (("server", ssl.PROTOCOL_TLS_SERVER), ("client", ssl.PROTOCOL_TLS_CLIENT)):
        files = IdentityFiles(tmp_path / side)
        contexts[side] = ssl.SSLContext(protocol)
        contexts[side].load_verify_locations(files.roots)
        contexts[side].load_cert_chain(files.certificate, files.key)
        contexts[side].verify_mode = ssl.CERT_REQUIRED
    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=contexts["server"]) as server:
        host, port = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(
            host, port, ssl=contexts["client"], server_hostname=name
        )
        assert await reader.read() == b"welcome"
        writer.close()
        await writer.wait_closed()


def test_a_chain_that_is_too_long_or_has_a_gap_is_refused(tmp_path: Path) -> None:
    """Four intermediates are one too many, and a missing one leads to no root."""
    with pytest.raises(NotTrustedError, match="trusted here is authority"):
        join(tmp_path / "long", pki(4))
    authorities = pki(2)
    with pytest.raises(NotTrustedError, match="trusted here is authority"):
        join(tmp_path / "gap", [authorities[0], authorities[2]])


def test_a_path_length_is_respected(tmp_path: Path) -> None:
    """TLS would refuse more intermediates than the root allows, without a reason."""
    with pytest.raises(NotTrustedError, match="allows 0 intermediates below it"):
        join(tmp_path, pki(1, root_length=0))


def test_a_root_may_name_no_federation() -> None:
    """An organization's root has other uses too."""
    assert federation_of_root(pki(0)[0].certificate) == ""
