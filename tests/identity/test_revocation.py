"""Revocation lists: what one says, who may sign it, which of two is newer, what is no list."""

import base64
import contextlib
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from qkt_p2p.errors import ConfigError, NotTrustedError
from qkt_p2p.identity.authority import Authority, IssuedCertificate, create_authority, sign_request
from qkt_p2p.identity.certificates import create_request, encode_certificate, facts_of_pem
from qkt_p2p.identity.keys import generate_key
from qkt_p2p.identity.revocation import (
    PEER_ID_OID,
    RevocationList,
    Revoked,
    parse_revocation_lists,
    sign_revocation_list,
)
from qkt_p2p.identity.revocations import (
    Revocations,
    install_revocations,
    load_revocations,
    save_revocations,
)
from qkt_p2p.identity.trust import IdentityFiles, create_identity
from qkt_p2p.limits import MAX_REVOCATION_BYTES

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
AUTHORITY, OTHER = create_authority("fed", now=NOW), create_authority("fed", now=NOW)
ROOTS = AUTHORITY.roots


def member(authority: Authority = AUTHORITY, request: bytes = b"") -> IssuedCertificate:
    return sign_request(authority, request or create_request(generate_key()), now=NOW)


def revoked(issued: IssuedCertificate, reason: str = "key-compromise") -> Revoked:
    return Revoked(issued.serial, issued.peer_id, reason, NOW)


def lists(count: int, authority: Authority = AUTHORITY) -> list[RevocationList]:
    """Return an authority's first lists, each with one entry more."""
    made: list[RevocationList] = []
    for _ in range(count):
        previous = made[-1] if made else None
        made.append(sign_revocation_list(authority, previous, [revoked(member(authority))], now=NOW))
    return made


MEMBER = member()
LIST = sign_revocation_list(AUTHORITY, None, [revoked(MEMBER)], now=NOW)


def foreign_list(
    *,
    issuer: x509.Name = AUTHORITY.certificate.subject,
    key: ec.EllipticCurvePrivateKey = AUTHORITY.key,
    number: int | None = 7,
    critical: bool = False,
    entry: x509.ExtensionType | None = None,
) -> bytes:
    """Return a list as another program would make it."""
    one = x509.RevokedCertificateBuilder().serial_number(MEMBER.serial).revocation_date(NOW)
    if entry is not None:
        one = one.add_extension(entry, critical=critical)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer)
        .last_update(NOW)
        .next_update(NOW + timedelta(days=1))
        .add_revoked_certificate(one.build())
    )
    if number is not None:
        builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    if critical and entry is None:
        builder = builder.add_extension(x509.DeltaCRLIndicator(3), critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def test_a_list_revokes_a_certificate_and_its_key() -> None:
    """The peer is out under its certificate and under any later one of the same key; others are not."""
    key = create_request(generate_key())
    first, second = member(request=key), member(request=key)
    listed = sign_revocation_list(AUTHORITY, None, [revoked(first)], now=NOW)
    assert listed.revokes(facts_of_pem(first.chain))
    assert listed.revokes(facts_of_pem(second.chain))
    assert listed.revokes(facts_of_pem(member(OTHER, key).chain))
    assert not listed.revokes(facts_of_pem(MEMBER.chain))
    assert listed.names(first.peer_id)
    assert not listed.names(MEMBER.peer_id)


def test_what_is_signed_is_what_is_read() -> None:
    """Entries, version and time survive; the next list holds what the last one held."""
    first, second = lists(2)
    (again,) = parse_revocation_lists(second.pem, ROOTS)
    assert again == second
    assert (first.version, second.version, second.issued_at) == (1, 2, NOW)
    assert second.entries[0] == first.entries[0]
    assert [each.reason for each in second.entries] == ["key-compromise"] * 2


def test_openssl_refuses_whom_a_list_revokes(tmp_path: Path) -> None:
    """The list is a standard one: OpenSSL, which did not make it, reads, verifies and obeys it."""
    now = datetime.now(UTC)
    good, bad = (tls_member(tmp_path / name) for name in ("good", "bad"))
    serial = facts_of_pem(bad.read_bytes()).serial
    listed = sign_revocation_list(AUTHORITY, None, [Revoked(serial, None, "superseded", now)], now=now)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    (tmp_path / "trusted.pem").write_bytes(ROOTS + listed.pem)
    client.load_verify_locations(tmp_path / "trusted.pem")
    shake_hands(client, good)
    with pytest.raises(ssl.SSLCertVerificationError, match="revoked"):
        shake_hands(client, bad)


def tls_member(directory: Path) -> Path:
    """Return the certificate file of a member, whose key lies next to it."""
    create_identity(directory)
    files = IdentityFiles(directory)
    files.certificate.write_bytes(sign_request(AUTHORITY, files.request.read_bytes()).chain)
    return files.certificate


def shake_hands(client: ssl.SSLContext, certificate: Path) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, certificate.with_name("key.pem"))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(to_client, to_server),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for side in sides:
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()


def test_a_list_of_another_program_revokes_by_serial_number() -> None:
    """Its entries name no peers, so they count for certificates of the same authority alone."""
    (listed,) = parse_revocation_lists(foreign_list(), ROOTS)
    assert (listed.version, listed.entries[0].peer_id) == (7, None)
    facts = facts_of_pem(MEMBER.chain)
    assert listed.revokes(facts)
    assert not listed.names(MEMBER.peer_id)
    assert not listed.revokes(facts_of_pem(member(OTHER).chain))


def intermediate() -> tuple[Authority, bytes]:
    """Return an intermediate authority below AUTHORITY, and its certificate."""
    key = generate_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "intermediate")])
    usage = AUTHORITY.certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(AUTHORITY.certificate.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=9))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(AUTHORITY.key, hashes.SHA256())
    )
    return Authority("fed", certificate, key), encode_certificate(certificate)


def test_an_intermediate_signs_for_its_own_members() -> None:
    """Its certificate travels along, and peers that it names are not believed: they may be others'."""
    below, certificate = intermediate()
    peer = x509.UnrecognizedExtension(PEER_ID_OID, b"\x04\x20" + bytes(32))
    pem = foreign_list(issuer=below.certificate.subject, key=below.key, entry=peer)
    with pytest.raises(NotTrustedError) as caught:
        parse_revocation_lists(pem, ROOTS)
    assert "append its certificate" in caught.value.fix
    (listed,) = parse_revocation_lists(pem + certificate, ROOTS)
    assert listed.entries[0].peer_id is None
    assert parse_revocation_lists(listed.pem, ROOTS) == (listed,)


@pytest.mark.parametrize(
    ("pem", "sentence"),
    [
        (b"", "no PEM revocation list"),
        (ROOTS, "no PEM revocation list"),
        (b"x" * (MAX_REVOCATION_BYTES + 1), "bytes, over"),
        (foreign_list(number=None), "has no number"),
        (foreign_list(critical=True), "only a part of one"),
        (foreign_list(key=OTHER.key), "not signed by the authority that it names"),
        (foreign_list(issuer=OTHER.certificate.subject, key=OTHER.key), "not of an authority"),
        (
            foreign_list(entry=x509.UnrecognizedExtension(PEER_ID_OID, b"\x04\x02ab")),
            "names no peer where it should",
        ),
        (
            foreign_list(entry=x509.CertificateIssuer([x509.DNSName("a")]), critical=True),
            "of the revocation list",
        ),
        (b"-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n", "cannot be read"),
    ],
)
def test_what_is_no_list_is_refused(pem: bytes, sentence: str) -> None:
    """Malformed, partial, unnumbered, oversized, or signed by somebody else."""
    with pytest.raises(NotTrustedError, match=sentence):
        parse_revocation_lists(pem, ROOTS)


@settings(max_examples=150)
@given(st.data())
def test_damaged_lists_are_refused_and_never_raise_anything_else(data: st.DataObject) -> None:
    """Any changed byte in the signed part, anywhere in the text: refused, or the very same list."""
    pem = bytearray(LIST.pem)
    for _ in range(data.draw(st.integers(1, 3))):
        pem[data.draw(st.integers(0, len(pem) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = parse_revocation_lists(bytes(pem), ROOTS)
    except NotTrustedError:
        return
    assert [each.entries for each in found] == [LIST.entries]


@settings(max_examples=150)
@given(st.data())
def test_damaged_der_is_refused_or_says_the_same(data: st.DataObject) -> None:
    """Also where the base64 around it is right; a few bytes around the signature mean nothing."""
    der = bytearray(x509.load_pem_x509_crl(LIST.pem).public_bytes(serialization.Encoding.DER))
    der[data.draw(st.integers(0, len(der) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        found = parse_revocation_lists(as_pem(bytes(der)), ROOTS)
    except NotTrustedError:
        return
    assert [(each.version, each.entries) for each in found] == [(LIST.version, LIST.entries)]


def as_pem(der: bytes) -> bytes:
    body = base64.encodebytes(der)
    return b"-----BEGIN X509 CRL-----\n" + body + b"-----END X509 CRL-----\n"


def test_a_certificate_whose_name_is_damaged_is_refused() -> None:
    """It comes with the lists, as an intermediate authority's; its name is looked for among their issuers."""
    issued = sign_request(AUTHORITY, create_request(generate_key()), name="Ward 7", now=NOW)
    der = x509.load_pem_x509_certificate(issued.chain).public_bytes(serialization.Encoding.DER)
    damaged = ssl.DER_cert_to_PEM_cert(der.replace(b"Ward 7", b"\xff\xfe\xff\xfe\xff\xfe")).encode()
    with pytest.raises(NotTrustedError, match="holds no readable PEM certificate"):
        parse_revocation_lists(LIST.pem + damaged, ROOTS)


@given(st.permutations(range(4)))
def test_the_newest_list_wins_in_whatever_order_they_come(order: list[int]) -> None:
    """An older list never replaces a newer one."""
    known = Revocations()
    for position in order:
        known = known.merge([CHAIN[position]])
    assert known.lists == (CHAIN[3],)
    assert known.merge(CHAIN) == known


CHAIN = lists(4)


def test_an_equal_version_does_not_replace() -> None:
    """What was believed first stays, should an authority ever sign two lists of one number."""
    other = sign_revocation_list(AUTHORITY, None, [], now=NOW)
    assert Revocations().merge([LIST]).merge([other]).lists == (LIST,)


def test_versions_tell_lists_apart() -> None:
    """Each authority has its own, by a digest of its name; newer lists name whom older ones did."""
    old, new = Revocations((CHAIN[0],)), Revocations().merge([CHAIN[1], *lists(1, OTHER)])
    assert (len(old.versions), len(new.versions)) == (1, 2)
    assert old.versions.items().isdisjoint(new.versions.items())
    assert all(len(name) == 52 for name in new.versions)
    assert new.revokes_peer(next(iter(old.peers)))


def test_lists_are_kept_on_disk(tmp_path: Path) -> None:
    """Two authorities' lists survive; those of an authority that is no longer trusted are left out."""
    path = tmp_path / "revoked.pem"
    assert load_revocations(path, ROOTS) == Revocations()
    both = Revocations().merge([LIST, *lists(1, OTHER)])
    save_revocations(path, both)
    assert load_revocations(path, ROOTS + OTHER.roots) == both
    assert load_revocations(path, ROOTS).lists == (LIST,)


def test_installing_keeps_the_newer(tmp_path: Path) -> None:
    """The file changes for a newer list, and for nothing else."""
    path = tmp_path / "revoked.pem"
    assert install_revocations(path, ROOTS, CHAIN[2].pem)[1] is True
    before = path.read_bytes()
    for older in (CHAIN[1], CHAIN[2]):
        held, newer = install_revocations(path, ROOTS, older.pem)
        assert (held.lists, newer) == ((CHAIN[2],), False)
    with pytest.raises(NotTrustedError):
        install_revocations(path, ROOTS, lists(9, OTHER)[-1].pem)
    assert path.read_bytes() == before


def test_a_damaged_file_stops_the_node(tmp_path: Path) -> None:
    """Whoever cannot tell who is revoked must not go on."""
    path = tmp_path / "revoked.pem"
    path.write_bytes(LIST.pem.replace(b"A", b"B"))
    with pytest.raises(ConfigError, match=r"revoked\.pem") as caught:
        load_revocations(path, ROOTS)
    assert "revoke --install" in caught.value.fix


def test_lists_are_capped() -> None:
    """Whoever may sign lists still cannot fill a node's memory."""
    many = [Revoked(number + 1, MEMBER.peer_id, "unspecified", NOW) for number in range(2500)]
    with pytest.raises(NotTrustedError, match="bytes, over"):
        sign_revocation_list(AUTHORITY, None, many, now=NOW)
    fitting = sign_revocation_list(AUTHORITY, None, many[:1000], now=NOW)
    assert len(fitting.pem) < MAX_REVOCATION_BYTES
