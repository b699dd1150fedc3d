"""Who lets machines in: an authority with its invitations, what it signed, and whom it revoked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from qkt_p2p.errors import NotTrustedError, UsageError
from qkt_p2p.identity.authority import CERTIFICATE_LIFETIME, IssuedCertificate, sign_request
from qkt_p2p.identity.certificates import parse_request
from qkt_p2p.identity.invitations import Invitation, Invitations
from qkt_p2p.identity.issued import IssuedCertificates
from qkt_p2p.identity.keys import decode_digest, peer_id_of
from qkt_p2p.identity.revocation import REASONS, Revoked, sign_revocation_list
from qkt_p2p.identity.revocations import Revocations, load_revocations, save_revocations

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from qkt_p2p.identity.authority import Authority
    from qkt_p2p.identity.inspection import CertificateFacts
    from qkt_p2p.types import PeerId

REVOKED_FILE: Final = "revoked.pem"


@dataclass(frozen=True, slots=True)
class Admission:
    """A machine that was let in: its certificate, and the invitation after its use."""

    issued: IssuedCertificate
    invitation: Invitation


class Registrar:
    """Signs for whom the authority lets in, and remembers it in the authority's directory.

    Every certificate lives for `lifetime`. Times are aware; `now` is for tests.
    """

    def __init__(
        self, authority: Authority, directory: Path, *, lifetime: timedelta = CERTIFICATE_LIFETIME
    ) -> None:
        self.authority = authority
        self.invitations = Invitations(directory)
        self.issued = IssuedCertificates(directory)
        self._revoked_file = directory / REVOKED_FILE
        self._lifetime = lifetime

    def sign(
        self, request: bytes, *, name: str = "", roles: Sequence[str] = (), now: datetime | None = None
    ) -> IssuedCertificate:
        """Sign a request that the authority's owner brings; raises as `sign_request` does."""
        return self._sign(request, name, roles, now=now)

    def enroll(
        self, invitation: str, proof: bytes, request: bytes, *, now: datetime | None = None
    ) -> Admission:
        """Sign a request (DER) against an invitation; raises NotTrustedError as `Invitations.claim` does."""
        claimed = self.invitations.claim(invitation, proof, request, now=now)
        return Admission(self._sign(request, claimed.name, claimed.roles, now=now), claimed)

    def renew(
        self, caller: CertificateFacts, request: bytes, *, now: datetime | None = None
    ) -> IssuedCertificate:
        """Sign a member's request for its own key, or for a new key that its old one vouches for.

        `caller` is the member's certificate, whose chain and key TLS has verified. Name and roles stay.
        Raises NotTrustedError where it has expired or is revoked, or has MAX_KEYS_OF_MEMBER keys.
        """
        time = now or datetime.now(UTC)
        if not caller.not_before <= time <= caller.not_after or caller.problems:
            raise NotTrustedError(
                f"the certificate of peer {caller.peer_id} is not valid now: it cannot vouch for another",
                fix="join again with a new token",
            )
        if self.revocations().revokes(caller):
            raise _revoked(caller.peer_id)
        peer = peer_id_of(parse_request(request))
        replaces = caller.peer_id if peer != caller.peer_id else ""
        return self._sign(request, caller.name, caller.roles, now=now, replaces=replaces)

    def revocations(self) -> Revocations:
        """Return the authority's revocation lists."""
        return load_revocations(self._revoked_file, self.authority.roots)

    def revoke(self, who: str, *, reason: str = "unspecified") -> tuple[list[PeerId], Revocations]:
        """Revoke a peer, named as in `IssuedCertificates.resolve`, and whoever got in by its key.

        Returns them and the authority's new lists. Raises UsageError for an unknown peer or reason.
        """
        if reason not in REASONS:
            raise UsageError(f"{reason[:40]!r} is not a reason", fix=f"one of {', '.join(REASONS)}")
        time = datetime.now(UTC).replace(microsecond=0)
        peers = self.issued.with_successors(self.issued.resolve(who))
        added = [entry for peer in peers for entry in self._entries(peer, reason, time)]
        held = self.revocations()
        own = self.authority.certificate.subject.public_bytes()
        previous = next((each for each in held.lists if each.issuer == own), None)
        lists = held.merge([sign_revocation_list(self.authority, previous, added, now=time)])
        save_revocations(self._revoked_file, lists)
        return peers, lists

    def _entries(self, peer: PeerId, reason: str, time: datetime) -> list[Revoked]:
        """Return an entry for each certificate of the peer; where none is remembered, for a made-up one."""
        serials = {each.serial for each in self.issued.all() if each.peer_id == peer}
        # The peer id counts; a serial number is needed all the same (RFC 5280, at most 20 bytes).
        serials = serials or {int.from_bytes(decode_digest(peer)[:19], "big") + 1}
        return [Revoked(serial, peer, reason, time) for serial in sorted(serials)]

    def _sign(
        self, request: bytes, name: str, roles: Sequence[str], *, now: datetime | None, replaces: str = ""
    ) -> IssuedCertificate:
        peer, revocations = peer_id_of(parse_request(request)), self.revocations()
        if revocations.revokes_peer(peer):
            raise _revoked(peer)
        issued = sign_request(
            self.authority, request, name=name, roles=roles, now=now, lifetime=self._lifetime
        )
        self.issued.record(issued, replaces=replaces, revoked=revocations.peers, now=now)
        return issued


def _revoked(peer: PeerId) -> NotTrustedError:
    return NotTrustedError(
        f"the authority has revoked peer {peer}",
        fix="if this machine should be a member again: a new home (qkt-node init), a new token",
    )
