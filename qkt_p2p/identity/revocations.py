"""All revocation lists of a federation that a node or an authority holds, and their file.

Lists spread among peers: `versions` tells what a holder has, `pem` is what it sends, and `merge` takes
what it hears. Values do not change, so a daemon swaps one for the next in one step.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qkt_p2p.errors import ConfigError, NotTrustedError
from qkt_p2p.identity.files import load_file, save_file
from qkt_p2p.identity.keys import encode_digest
from qkt_p2p.identity.revocation import RevocationList, parse_revocation_lists
from qkt_p2p.limits import MAX_REVOCATION_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from qkt_p2p.identity.inspection import CertificateFacts
    from qkt_p2p.types import PeerId


@dataclass(frozen=True, slots=True)
class Revocations:
    """The newest list of each authority, ordered by authority."""

    lists: tuple[RevocationList, ...] = ()

    @property
    def pem(self) -> bytes:
        """All lists, with the intermediates that signed them, as `parse_revocation_lists` reads them."""
        return b"".join(each.pem for each in self.lists)

    @property
    def versions(self) -> dict[str, int]:
        """The version of each authority's list, by the digest of the authority's name (52 characters)."""
        return {_digest(each): each.version for each in self.lists}

    @property
    def digest(self) -> int:
        """What a beat tells of the lists: 64 bits of a digest of `versions`, 0 where there are none."""
        held = "".join(f"{issuer} {version}\n" for issuer, version in self.versions.items())
        return int.from_bytes(hashlib.sha256(held.encode("ascii")).digest()[:8], "big") if held else 0

    @property
    def peers(self) -> frozenset[PeerId]:
        """Every peer that is revoked whatever its certificate."""
        return frozenset(entry.peer_id for each in self.lists for entry in each.entries if entry.peer_id)

    def revokes(self, facts: CertificateFacts) -> bool:
        """Return whether a certificate is revoked."""
        return any(each.revokes(facts) for each in self.lists)

    def revokes_peer(self, peer: PeerId) -> bool:
        """Return whether a peer is revoked whatever its certificate."""
        return any(each.names(peer) for each in self.lists)

    def merge(self, lists: Iterable[RevocationList]) -> Revocations:
        """Return the newest of each authority's lists; an equal version does not replace what is here.

        Raises NotTrustedError where they would outgrow the cap.
        """
        newest = {each.issuer: each for each in self.lists}
        for each in lists:
            known = newest.get(each.issuer)
            if known is None or each.version > known.version:
                newest[each.issuer] = each
        merged = Revocations(tuple(newest[issuer] for issuer in sorted(newest)))
        if len(merged.pem) > MAX_REVOCATION_BYTES:
            raise NotTrustedError(f"the revocation lists outgrow {MAX_REVOCATION_BYTES} bytes")
        return merged


def load_revocations(path: Path, roots: bytes) -> Revocations:
    """Read what `save_revocations` wrote; none where there is no file.

    Lists of authorities that are no longer among `roots` (PEM) are left out. Raises ConfigError for a
    damaged file: a node that cannot tell who is revoked must not go on.
    """
    if not path.exists():
        return Revocations()
    try:
        pem = load_file(path, limit=MAX_REVOCATION_BYTES)
        return Revocations().merge(parse_revocation_lists(pem, roots, skip_unknown=True))
    except NotTrustedError as error:
        raise ConfigError(
            f"{path}: {error.message}",
            fix="remove it, and take the authority's list: qkt-node revoke --install FILE --home HOME",
        ) from error


def save_revocations(path: Path, revocations: Revocations) -> None:
    """Replace the file by the lists; raises ConfigError where it cannot be written."""
    save_file(path, revocations.pem)


def install_revocations(path: Path, roots: bytes, pem: bytes) -> tuple[Revocations, bool]:
    """Keep the lists in `pem` that are newer than the file's; return what it holds now, and whether any was.

    Raises NotTrustedError for lists that none of `roots` signed, ConfigError for a damaged file.
    """
    held = load_revocations(path, roots)
    merged = held.merge(parse_revocation_lists(pem, roots))
    if merged != held:
        save_revocations(path, merged)
    return merged, merged != held


def _digest(each: RevocationList) -> str:
    return encode_digest(hashlib.sha256(each.issuer).digest())
