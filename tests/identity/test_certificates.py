"""Certificates that peers accept, and every way in which one is refused, said in a sentence."""

import base64
import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier
from hypothesis import given, settings
from hypothesis import strategies as st

from qkt_p2p.errors import NotTrustedError
from qkt_p2p.identity.authority import Authority, create_authority, sign_request
from qkt_p2p.identity.certificates import (
    create_request,
    diagnose,
    encode_certificate,
    inspect_chain,
    parse_request,
    root_fingerprints,
    split_bundle,
)
from qkt_p2p.identity.keys import (
    PrivateKey,
    dns_name_of,
    fingerprint_of,
    generate_key,
    key_digest,
    peer_id_of,
    spiffe_uri,
)

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
FEDERATION = "hospitals.example"
AUTHORITY = create_authority(FEDERATION, now=NOW)
OTHERS = create_authority("others.example", now=NOW)
KEY = generate_key()
PEER = peer_id_of(KEY.public_key())
REQUEST = create_request(KEY)
ISSUED = sign_request(AUTHORITY, REQUEST, now=NOW)


@dataclasses.dataclass(frozen=True)
class Forgery:
    """A member's certificate as it should be, for tests to change one thing of."""

    key: PrivateKey = KEY
    uris: Sequence[str] = (spiffe_uri(FEDERATION, PEER),)
    hosts: Sequence[str] = (dns_name_of(PEER),)
    begin: datetime = NOW
    end: datetime = NOW + timedelta(days=1)
    is_authority: bool = False
    signs: bool = True
    usages: Sequence[ObjectIdentifier] = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH)
    authority: Authority | None = AUTHORITY

    def make(self) -> x509.Certificate:
        """Sign the certificate by the authority, or by its own key where there is none."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "forged")])
        issuer = self.authority.certificate.subject if self.authority else subject
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in self.uris]
        names += [x509.DNSName(host) for host in self.hosts]
        usage = dict.fromkeys(
            (
                "content_commitment",
                "key_encipherment",
                "data_encipherment",
                "key_agreement",
                "crl_sign",
                "encipher_only",
                "decipher_only",
            ),
            False,
        )
        signer = self.authority.key if self.authority else self.key
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.begin)
            .not_valid_after(self.end)
            .add_extension(x509.BasicConstraints(ca=self.is_authority, path_length=None), critical=True)
            .add_extension(
                x509.KeyUsage(digital_signature=self.signs, key_cert_sign=self.is_authority, **usage),
                critical=True,
            )
            .add_extension(
                x509.AuthorityKeyIdentifier(key_digest(signer.public_key()), None, None), critical=False
            )
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if self.usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(self.usages), critical=False)
        return builder.sign(signer, hashes.SHA256())


def problems_of(
    certificate: x509.Certificate,
    *,
    key: PrivateKey = KEY,
    now: datetime = NOW,
    roots: bytes = AUTHORITY.roots,
) -> list[str]:
    return diagnose(encode_certificate(certificate), roots, key=key, now=now)


def pem(label: str, der: bytes) -> bytes:
    body = base64.encodebytes(der)
    return f"-----BEGIN {label}-----\n".encode() + body + f"-----END {label}-----\n".encode()


def test_an_issued_certificate_has_no_problem() -> None:
    """What an authority signs is accepted, and says who its holder is."""
    assert diagnose(ISSUED.chain, ISSUED.roots, key=KEY, now=NOW) == []
    facts = inspect_chain(ISSUED.chain)
    assert (facts.peer_id, facts.federation) == (PEER, FEDERATION)
    assert facts.issuer_fingerprint == AUTHORITY.fingerprint == root_fingerprints(ISSUED.roots)[0]


def test_the_forgery_without_a_change_has_no_problem() -> None:
    """So each test below is about the one thing that it changes."""
    assert problems_of(Forgery().make()) == []


OTHER_KEY = generate_key()
OTHER_PEER = peer_id_of(OTHER_KEY.public_key())
P384 = ec.generate_private_key(ec.SECP384R1())


@pytest.mark.parametrize(
    ("forgery", "sentence"),
    [
        (
            Forgery(begin=NOW - timedelta(days=9), end=NOW - timedelta(hours=1)),
            "expired at 2026-07-01 11:00 UTC",
        ),
        (Forgery(begin=NOW + timedelta(hours=1)), "check the clocks"),
        (Forgery(uris=()), "exactly one URI, and names 0"),
        (Forgery(uris=(spiffe_uri(FEDERATION, PEER), "https://a.example")), "exactly one URI, and names 2"),
        (Forgery(uris=("https://a.example",)), "names no peer"),
        pytest.param(
            Forgery(uris=(spiffe_uri(FEDERATION, OTHER_PEER),)),
            f"names peer {OTHER_PEER}, but its key",
            id="another peer",
        ),
        (Forgery(uris=(spiffe_uri("others.example", PEER),)), "names federation 'others.example'"),
        (Forgery(hosts=()), "DNS name"),
        (Forgery(hosts=(dns_name_of(PEER), "a.example")), "DNS name"),
        (Forgery(is_authority=True), "an authority's, not a member's"),
        (Forgery(signs=False), "digitalSignature"),
        (Forgery(usages=(ExtendedKeyUsageOID.CLIENT_AUTH,)), "to serve peers"),
        (Forgery(usages=(ExtendedKeyUsageOID.SERVER_AUTH,)), "to dial peers"),
        (Forgery(usages=()), "to dial peers"),
        pytest.param(
            Forgery(authority=OTHERS), f"signed by authority {OTHERS.fingerprint}", id="another authority"
        ),
        (Forgery(authority=None), f"trusted here is federation '{FEDERATION}'"),
        (Forgery(authority=dataclasses.replace(AUTHORITY, key=OTHER_KEY)), "signed by authority"),
        (Forgery(key=P384), "not ECDSA P-256"),
    ],
)
def test_each_flaw_is_told(forgery: Forgery, sentence: str) -> None:
    """A certificate with one flaw gives a sentence about it."""
    assert any(sentence in problem for problem in problems_of(forgery.make()))


def test_all_flaws_are_told_at_once() -> None:
    """An expired certificate of another federation and another key gives three sentences or more."""
    forged = Forgery(authority=OTHERS, begin=NOW - timedelta(days=9), end=NOW - timedelta(days=1)).make()
    problems = problems_of(forged, key=OTHER_KEY)
    assert len(problems) == 3
    assert "this home's key is that of peer" in problems[0]


def test_an_expired_root_is_told() -> None:
    """The member's certificate never outlives its root, and an expired root is named."""
    late = NOW + timedelta(days=3649)
    issued = sign_request(AUTHORITY, create_request(KEY), now=late)
    assert issued.not_after == AUTHORITY.certificate.not_valid_after_utc
    problems = diagnose(issued.chain, issued.roots, key=KEY, now=late + timedelta(days=2))
    assert any("root certificate expired" in problem for problem in problems)


def test_a_chain_over_one_intermediate_is_accepted() -> None:
    """A member may present the certificate of an intermediate authority; without it the chain ends."""
    middle_key = generate_key()
    middle = Forgery(key=middle_key, is_authority=True, usages=(), uris=(), hosts=()).make()
    leaf = Forgery(authority=Authority(FEDERATION, middle, middle_key)).make()
    chain = encode_certificate(leaf) + encode_certificate(middle)
    assert diagnose(chain, AUTHORITY.roots, key=KEY, now=NOW) == []
    assert problems_of(leaf) != []


def test_a_member_cannot_vouch_for_others() -> None:
    """A certificate signed by a member's key is refused although the member is trusted."""
    member = Forgery(
        key=OTHER_KEY, uris=(spiffe_uri(FEDERATION, OTHER_PEER),), hosts=(dns_name_of(OTHER_PEER),)
    ).make()
    leaf = Forgery(authority=Authority(FEDERATION, member, OTHER_KEY)).make()
    chain = encode_certificate(leaf) + encode_certificate(member)
    assert any("trusted here" in problem for problem in diagnose(chain, AUTHORITY.roots, key=KEY, now=NOW))


def test_roots_of_two_federations_are_refused() -> None:
    """A bundle cannot smuggle in the root of another federation."""
    problems = diagnose(ISSUED.chain, AUTHORITY.roots + OTHERS.roots, key=KEY, now=NOW)
    assert problems == ["the roots are of several federations: hospitals.example, others.example"]


def test_a_bundle_splits_into_chain_and_roots() -> None:
    """The order of the certificates in the bundle does not matter; each part must be there."""
    assert split_bundle(ISSUED.roots + ISSUED.chain) == (ISSUED.chain, ISSUED.roots)
    with pytest.raises(NotTrustedError, match="no root certificate"):
        split_bundle(ISSUED.chain)
    with pytest.raises(NotTrustedError, match="no member's certificate"):
        split_bundle(ISSUED.roots)
    with pytest.raises(NotTrustedError, match="over 16"):
        split_bundle(ISSUED.bundle * 9)


@settings(max_examples=150)
@given(st.data())
def test_damaged_certificates_never_raise_anything_else(data: st.DataObject) -> None:
    """Flipping or cutting bytes of the DER gives sentences or NotTrustedError, no other exception."""
    der = bytearray(x509.load_pem_x509_certificate(ISSUED.chain).public_bytes(serialization.Encoding.DER))
    for _ in range(data.draw(st.integers(1, 4))):
        der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.sampled_from([len(der), len(der) - 1, len(der) // 2]))
    damaged = pem("CERTIFICATE", bytes(der[:cut]))
    diagnose(damaged, ISSUED.roots, key=KEY, now=NOW)
    try:
        split_bundle(damaged + ISSUED.bundle)
        inspect_chain(damaged)
    except NotTrustedError:
        return


@settings(max_examples=100)
@given(st.data())
def test_damaged_requests_are_refused(data: st.DataObject) -> None:
    """A request with any byte changed is refused, or is a request of the same key."""
    der = bytearray(x509.load_pem_x509_csr(REQUEST).public_bytes(serialization.Encoding.DER))
    der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    try:
        key = parse_request(bytes(der))
    except NotTrustedError:
        return
    assert fingerprint_of(key) == PEER
