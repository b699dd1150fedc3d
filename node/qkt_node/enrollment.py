"""Membership of a home: joining, renewing, changing the key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qkt_node.home import Home, home_at, open_home
from qkt_node.new_home import create_home
from qkt_p2p.errors import NotTrustedError
from qkt_p2p.identity.certificates import root_fingerprints
from qkt_p2p.identity.files import load_file
from qkt_p2p.identity.renewal import load_renewal_addresses, save_renewal_addresses
from qkt_p2p.identity.revocations import install_revocations
from qkt_p2p.identity.trust import IdentityFiles, Membership, begin_rotation, install_bundle, load_identity
from qkt_p2p.transport.enrollment_client import Issued, enroll, renew

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from qkt_p2p.identity.tokens import Token
    from qkt_p2p.types import PeerId


async def join_home(root: Path, token: Token) -> Membership:
    """Join with a token: make the home and its key where they are missing, enrol, install, remember.

    Raises NotTrustedError, before anything is sent, where the home is of another federation.
    """
    files = _files_to_join(root, token)
    return _install(files, await enroll(token, load_file(files.request)))


async def renew_home(home: Home, addresses: Sequence[str] = ()) -> Membership:
    """Renew the certificate at the authority; `addresses` default to those remembered at joining."""
    identity = load_identity(home.identity)
    files = identity.files
    return _install(files, await renew(identity, addresses or load_renewal_addresses(files)))


async def rotate_home(home: Home, addresses: Sequence[str] = ()) -> Membership:
    """Change the key: the old one vouches for the new one at the authority, then the new one takes over."""
    identity = load_identity(home.identity)
    files = identity.files
    found = addresses or load_renewal_addresses(files)
    return _install(files, await renew(identity, found, request=load_file(files.next.request)))


def prepare_rotation(home: Home) -> tuple[PeerId, Path]:
    """Make the next key where there is none yet; return its peer id and the request for it."""
    load_identity(home.identity)
    return begin_rotation(home.identity), IdentityFiles(home.identity).next.request


def _files_to_join(root: Path, token: Token) -> IdentityFiles:
    home = open_home(root) if home_at(root).config_file.exists() else create_home(root)[0]
    files = IdentityFiles(home.identity)
    known = root_fingerprints(load_file(files.roots)) if files.roots.exists() else [token.root]
    if token.root not in known:
        raise NotTrustedError(
            f"{home.root} is a member of the federation with root {' or '.join(known)}; "
            f"the token is for another, with root {token.root}",
            fix="qkt-node join TOKEN --home OTHER_DIR: a node is a member of one federation",
        )
    return files


def _install(files: IdentityFiles, issued: Issued) -> Membership:
    """Put what an authority answered in place; raises NotTrustedError where it is not what it must be."""
    member = install_bundle(files.directory, issued.bundle)
    if issued.renewal_addresses:
        save_renewal_addresses(files, issued.renewal_addresses)
    if issued.revocation_lists:
        install_revocations(files.revoked, load_file(files.roots), issued.revocation_lists)
    return member
