"""One authority takes over from another: for a while both hand out both roots.

So members of either trust members of either, and nobody is cut off on the way (docs/federation.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from qkt_p2p.errors import NotTrustedError, UsageError
from qkt_p2p.identity.authority import ROOT_FILE, load_roots
from qkt_p2p.identity.certificates import encode_certificate, is_root, parse_certificates
from qkt_p2p.identity.files import save_file
from qkt_p2p.identity.inspection import federation_of_root
from qkt_p2p.identity.keys import fingerprint_of

if TYPE_CHECKING:
    from pathlib import Path

ROOT_WANTED: Final = f"give the authority/{ROOT_FILE} of the other authority"
"""What people are told who gave another file."""


def add_root(directory: Path, certificate: bytes) -> str:
    """Have the authority in `directory` hand out another's root (PEM) too; return its fingerprint.

    Raises NotTrustedError where the first certificate is not a root of the same federation.
    """
    roots = load_roots(directory)
    added = parse_certificates(certificate, "the file", fix=ROOT_WANTED)[0]
    federation = federation_of_root(roots[0])
    if not is_root(added) or federation_of_root(added) != federation:
        raise NotTrustedError(
            f"the first certificate of the file is no root of federation {federation!r}",
            fix=ROOT_WANTED,
        )
    if added not in roots:
        save_file(directory / ROOT_FILE, b"".join(map(encode_certificate, [*roots, added])))
    return fingerprint_of(added.public_key())


def drop_root(directory: Path, fingerprint: str) -> None:
    """Have the authority in `directory` hand out another's root no longer.

    Raises UsageError where it does not hand it out, or where it is its own.
    """
    own, *others = load_roots(directory)
    kept = [each for each in others if fingerprint_of(each.public_key()) != fingerprint]
    if len(kept) == len(others):
        known = [fingerprint_of(each.public_key()) for each in others]
        raise UsageError(
            f"{fingerprint[:80]!r} is not the fingerprint of another authority's root",
            fix=f"known: {', '.join(known) or 'none'}",
        )
    save_file(directory / ROOT_FILE, b"".join(map(encode_certificate, [own, *kept])))
