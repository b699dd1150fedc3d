"""A second authority takes over without cutting anybody off."""

from pathlib import Path

import pytest

from qkt_p2p.errors import NotTrustedError, UsageError
from qkt_p2p.identity.authority import create_authority, load_authority, save_authority, sign_request
from qkt_p2p.identity.change_over import add_root, drop_root
from qkt_p2p.identity.trust import IdentityFiles, create_identity, install_bundle, load_identity

OLD, NEW = create_authority("fed"), create_authority("fed")


def test_a_member_moves_from_the_old_authority_to_the_new_one(tmp_path: Path) -> None:
    """Old root, both roots, a certificate of the new authority, new root alone: each step is a bundle."""
    for name, authority in (("old", OLD), ("new", NEW)):
        save_authority(authority, tmp_path / name)
    create_identity(tmp_path / "identity")
    request = IdentityFiles(tmp_path / "identity").request.read_bytes()

    def join(name: str) -> tuple[str, ...]:
        bundle = sign_request(load_authority(tmp_path / name), request).bundle
        installed = install_bundle(tmp_path / "identity", bundle).fingerprints
        load_identity(tmp_path / "identity")
        return installed

    assert join("old") == (OLD.fingerprint,)
    with pytest.raises(NotTrustedError, match="the bundle is of another"):
        join("new")
    assert add_root(tmp_path / "old", NEW.roots) == NEW.fingerprint
    assert join("old") == (OLD.fingerprint, NEW.fingerprint)
    add_root(tmp_path / "new", OLD.roots)
    assert join("new") == (NEW.fingerprint, OLD.fingerprint)
    drop_root(tmp_path / "new", OLD.fingerprint)
    assert join("new") == (NEW.fingerprint,)


def test_a_root_is_added_once(tmp_path: Path) -> None:
    """Repeating the command changes nothing."""
    save_authority(OLD, tmp_path)
    for _ in range(2):
        add_root(tmp_path, NEW.roots)
    assert load_authority(tmp_path).roots == OLD.roots + NEW.roots


@pytest.mark.parametrize("other", [create_authority("other").roots, b""], ids=["federation", "nothing"])
def test_what_is_no_root_of_the_federation_is_not_added(tmp_path: Path, other: bytes) -> None:
    """Members would refuse a bundle with roots of two federations."""
    save_authority(OLD, tmp_path)
    with pytest.raises(NotTrustedError):
        add_root(tmp_path, other)
    assert load_authority(tmp_path).roots == OLD.roots


def test_a_members_certificate_is_no_root(tmp_path: Path) -> None:
    """Only what is signed by itself, and may sign, can be trusted as a root."""
    save_authority(OLD, tmp_path)
    create_identity(tmp_path / "identity")
    issued = sign_request(OLD, IdentityFiles(tmp_path / "identity").request.read_bytes())
    with pytest.raises(NotTrustedError, match="no root of federation 'fed'"):
        add_root(tmp_path, issued.chain)


@pytest.mark.parametrize("fingerprint", [OLD.fingerprint, "unknown"], ids=["own", "unknown"])
def test_only_another_authoritys_root_can_be_dropped(tmp_path: Path, fingerprint: str) -> None:
    """An authority without its own root would be none."""
    save_authority(OLD, tmp_path)
    add_root(tmp_path, NEW.roots)
    with pytest.raises(UsageError) as caught:
        drop_root(tmp_path, fingerprint)
    assert NEW.fingerprint in caught.value.fix
