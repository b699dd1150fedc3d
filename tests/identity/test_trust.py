"""Joining a federation, loading an identity, and telling who a peer is."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from qkt_p2p.errors import ConfigError, NotTrustedError, QktError
from qkt_p2p.identity.authority import Authority, create_authority, sign_request
from qkt_p2p.identity.keys import encode_digest, spiffe_uri
from qkt_p2p.identity.trust import (
    Identity,
    IdentityFiles,
    create_identity,
    install_bundle,
    load_identity,
    peer_from_uris,
)
from qkt_p2p.types import PeerId

AUTHORITY = create_authority("fed")
PEER = PeerId(encode_digest(bytes(32)))


def bundle_for(directory: Path, authority: Authority = AUTHORITY, *, now: datetime | None = None) -> bytes:
    return sign_request(authority, IdentityFiles(directory).request.read_bytes(), now=now).bundle


def member(directory: Path) -> Identity:
    create_identity(directory)
    install_bundle(directory, bundle_for(directory))
    return load_identity(directory)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_a_node_that_joined_has_an_identity(tmp_path: Path) -> None:
    """Key, request, signature, bundle: then the identity names the peer and hides its key in logs."""
    peer = create_identity(tmp_path / "identity")
    joined = install_bundle(tmp_path / "identity", bundle_for(tmp_path / "identity"))
    identity = load_identity(tmp_path / "identity")
    assert peer == identity.peer_id == joined.peer_id
    assert (identity.federation, joined.fingerprints) == ("fed", (AUTHORITY.fingerprint,))
    assert (tmp_path / "identity").stat().st_mode & 0o777 == 0o700
    assert "PRIVATE" not in repr(identity)


def test_creating_twice_keeps_the_key(tmp_path: Path) -> None:
    """A peer id is for life: a second call does not replace the key."""
    assert create_identity(tmp_path) == create_identity(tmp_path)


def test_a_handshake_between_two_members_works(tmp_path: Path) -> None:
    """OpenSSL, which is not what made the certificates, accepts them both ways and by DNS name."""
    server, client = member(tmp_path / "server"), member(tmp_path / "client")
    contexts = {
        "server": context_of(tmp_path / "server", ssl.PROTOCOL_TLS_SERVER),
        "client": context_of(tmp_path / "client", ssl.PROTOCOL_TLS_CLIENT),
    }
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        contexts["client"].wrap_bio(to_client, to_server, server_hostname=server.dns_name),
        contexts["server"].wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for side in sides:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert names_of(sides[0]) == [spiffe_uri("fed", server.peer_id)]
    assert names_of(sides[1]) == [spiffe_uri("fed", client.peer_id)]


def context_of(directory: Path, protocol: int) -> ssl.SSLContext:
    files = IdentityFiles(directory)
    context = ssl.SSLContext(protocol)
    context.load_verify_locations(files.roots)
    context.load_cert_chain(files.certificate, files.key)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def names_of(side: ssl.SSLObject) -> list[str]:
    certificate = side.getpeercert()
    assert certificate is not None
    names = certificate["subjectAltName"]
    assert isinstance(names, tuple)
    return [str(name[1]) for name in names if name[0] == "URI"]


def test_a_home_that_has_not_joined_says_how_to(tmp_path: Path) -> None:
    """The fix names both commands."""
    create_identity(tmp_path / "identity")
    with pytest.raises(ConfigError, match="not joined") as caught:
        load_identity(tmp_path / "identity")
    assert "ca sign" in caught.value.fix
    assert f"join --home {tmp_path}" in caught.value.fix


def test_a_missing_key_is_restored_or_another_home_joins(tmp_path: Path) -> None:
    """Without a key there is no identity, and `init` makes none in a home that is one."""
    with pytest.raises(ConfigError) as caught:
        load_identity(tmp_path / "identity")
    assert caught.value.fix == ("restore it from a copy, or join anew: qkt-node join TOKEN --home OTHER_DIR")


def test_an_expired_certificate_is_no_identity(tmp_path: Path) -> None:
    """Peers would refuse it, so the node does not start."""
    member(tmp_path)
    with pytest.raises(NotTrustedError, match="expired"):
        load_identity(tmp_path, now=datetime.now(UTC) + timedelta(days=91))


def test_a_clock_far_behind_is_named(tmp_path: Path) -> None:
    """A machine whose clock is an hour behind is told to look at its clock."""
    member(tmp_path)
    with pytest.raises(NotTrustedError, match="check the clocks"):
        load_identity(tmp_path, now=datetime.now(UTC) - timedelta(hours=1))


@pytest.mark.parametrize("name", ["certificate.pem", "roots.pem", "key.pem"])
def test_damaged_files_are_told(tmp_path: Path, name: str) -> None:
    """No damaged file is ignored."""
    member(tmp_path)
    (tmp_path / name).write_bytes(b"damaged")
    with pytest.raises(QktError, match=r"damaged|no readable PEM certificate"):
        load_identity(tmp_path)


def test_a_certificate_of_another_key_is_refused_and_nothing_touched(tmp_path: Path) -> None:
    """The bundle of one node cannot be installed at another."""
    member(tmp_path / "mine")
    create_identity(tmp_path / "other")
    before = contents(tmp_path / "mine")
    with pytest.raises(NotTrustedError, match="this home's key is that of peer"):
        install_bundle(tmp_path / "mine", bundle_for(tmp_path / "other"))
    assert contents(tmp_path / "mine") == before


@pytest.mark.parametrize("name", ["fed", "other"])
def test_another_federation_is_refused_and_nothing_touched(tmp_path: Path, name: str) -> None:
    """Also where it bears the same name: its root is another."""
    member(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(NotTrustedError, match="the bundle is of another"):
        install_bundle(tmp_path, bundle_for(tmp_path, create_authority(name)))
    assert contents(tmp_path) == before


def test_an_expired_bundle_is_refused_and_nothing_touched(tmp_path: Path) -> None:
    """An old bundle is not installed over a good one."""
    member(tmp_path)
    before = contents(tmp_path)
    old = create_authority("fed", now=datetime.now(UTC) - timedelta(days=200))
    with pytest.raises(NotTrustedError, match="expired"):
        install_bundle(tmp_path, bundle_for(tmp_path, old, now=datetime.now(UTC) - timedelta(days=100)))
    assert contents(tmp_path) == before


def test_a_newer_certificate_of_the_same_federation_replaces_the_old(tmp_path: Path) -> None:
    """Joining again is how a certificate is renewed by hand."""
    before = member(tmp_path)
    install_bundle(tmp_path, bundle_for(tmp_path, now=datetime.now(UTC) + timedelta(minutes=4)))
    after = load_identity(tmp_path)
    assert after.not_after > before.not_after
    assert after.peer_id == before.peer_id


@pytest.mark.parametrize(
    "uris",
    [
        [],
        [spiffe_uri("fed", PEER)] * 2,
        [spiffe_uri("other", PEER)],
        ["https://fed.example/"],
        [""],
    ],
)
def test_who_is_not_exactly_one_member_is_nobody(uris: list[str]) -> None:
    """No URI, several, another federation's, another kind: refused."""
    with pytest.raises(NotTrustedError):
        peer_from_uris(uris, "fed")


def test_one_uri_of_the_federation_names_the_peer() -> None:
    """The one accepted form."""
    assert peer_from_uris([spiffe_uri("fed", PEER)], "fed") == PEER
