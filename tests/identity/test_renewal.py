"""A new key takes over: whole or not at all, whenever the machine stops on the way."""

from pathlib import Path

import pytest

from qkt_p2p.errors import ConfigError, NotTrustedError
from qkt_p2p.identity.authority import create_authority, sign_request
from qkt_p2p.identity.renewal import (
    finish_rotation,
    load_renewal_addresses,
    save_renewal_addresses,
)
from qkt_p2p.identity.revocation import Revoked, sign_revocation_list
from qkt_p2p.identity.revocations import Revocations, save_revocations
from qkt_p2p.identity.trust import (
    IdentityFiles,
    begin_rotation,
    create_identity,
    install_bundle,
    load_identity,
)

AUTHORITY = create_authority("fed")


@pytest.fixture
def files(tmp_path: Path) -> IdentityFiles:
    """A member's files."""
    create_identity(tmp_path / "identity")
    files = IdentityFiles(tmp_path / "identity")
    install_bundle(files.directory, bundle_for(files))
    return files


def bundle_for(files: IdentityFiles) -> bytes:
    return sign_request(AUTHORITY, files.request.read_bytes()).bundle


def test_the_old_key_is_used_until_the_new_one_is_certified(files: IdentityFiles) -> None:
    """Beginning changes nothing, and can be repeated; the certificate of the new key changes all."""
    before = load_identity(files.directory)
    peer = begin_rotation(files.directory)
    assert begin_rotation(files.directory) == peer != before.peer_id
    assert load_identity(files.directory).peer_id == before.peer_id
    assert files.next.key.stat().st_mode & 0o777 == 0o600
    assert install_bundle(files.directory, bundle_for(files.next)).peer_id == peer
    after = load_identity(files.directory)
    assert after.peer_id == after.facts.peer_id == peer
    assert not files.next.directory.exists()


def test_the_old_key_can_be_renewed_while_a_new_one_waits(files: IdentityFiles) -> None:
    """A certificate finds its key."""
    before = load_identity(files.directory)
    begin_rotation(files.directory)
    assert install_bundle(files.directory, bundle_for(files)).peer_id == before.peer_id
    assert files.next.key.exists()


@pytest.mark.parametrize("moved", range(5))
def test_a_crash_on_the_way_is_finished_at_the_next_start(files: IdentityFiles, moved: int) -> None:
    """After any number of moved files the next load has the new key, whole."""
    peer = begin_rotation(files.directory)
    bundle = bundle_for(files.next)
    chain, roots = bundle.split(b"-----END CERTIFICATE-----\n", 1)
    files.next.roots.write_bytes(roots)
    files.next.certificate.write_bytes(chain + b"-----END CERTIFICATE-----\n")
    for name in ("key.pem", "request.pem", "roots.pem", "certificate.pem")[:moved]:
        (files.next.directory / name).replace(files.directory / name)
    assert load_identity(files.directory).peer_id == peer
    finish_rotation(files)
    assert load_identity(files.directory).peer_id == peer


def test_a_foreign_certificate_does_not_put_the_new_key_in_place(files: IdentityFiles) -> None:
    """Another federation's authority cannot finish a rotation."""
    before = load_identity(files.directory)
    begin_rotation(files.directory)
    foreign = sign_request(create_authority("fed"), files.next.request.read_bytes()).bundle
    with pytest.raises(NotTrustedError, match="the bundle is of another"):
        install_bundle(files.directory, foreign)
    assert load_identity(files.directory) == before


def test_a_revoked_member_is_no_identity(files: IdentityFiles) -> None:
    """Its owner learns it at once, instead of from peers that close connections."""
    identity = load_identity(files.directory)
    entry = Revoked(1, identity.peer_id, "superseded", identity.facts.not_before)
    listed = sign_revocation_list(AUTHORITY, None, [entry], now=identity.facts.not_before)
    save_revocations(files.revoked, Revocations((listed,)))
    with pytest.raises(NotTrustedError, match=f"peer {identity.peer_id} is revoked"):
        load_identity(files.directory)


def test_where_to_renew_is_remembered(files: IdentityFiles) -> None:
    """Nowhere for those who joined by files."""
    assert load_renewal_addresses(files) == ()
    save_renewal_addresses(files, ("ca.example:7449", "[::1]:7449"))
    assert load_renewal_addresses(files) == ("ca.example:7449", "[::1]:7449")
    for damage in (b"", b"[]", b'{"renewal_addresses": 7}', b'{"renewal_addresses": ["a"]}', b"\xff"):
        files.enrollment.write_bytes(damage)
        with pytest.raises(ConfigError, match="is damaged"):
            load_renewal_addresses(files)
