"""The invitations of an authority, kept in one file next to its key.

A use is on disk before its certificate is signed, so that a crash cannot let anybody in twice.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from qkt_p2p.errors import NotTrustedError, UsageError
from qkt_p2p.identity.certificates import parse_request
from qkt_p2p.identity.enrollment import is_proven
from qkt_p2p.identity.keys import peer_id_of
from qkt_p2p.identity.ledger import Ledger
from qkt_p2p.identity.naming import parse_member_name, parse_roles
from qkt_p2p.identity.tokens import INVITATION_BYTES, SECRET_BYTES
from qkt_p2p.limits import MAX_INVITATION_SECONDS, MAX_INVITATION_USES, MAX_INVITATIONS
from qkt_p2p.types import PeerId, parse_peer_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

INVITATIONS_FILE: Final = "invitations.jsonl"

_REMEMBERED: Final = timedelta(days=7)
"""An invitation is forgotten so long after its expiry; until then who comes late is told why."""

_ASK: Final = "ask the authority's owner for a new token: qkt-node invite --home CA_DIR"


@dataclass(frozen=True, slots=True)
class Invitation:
    """A permission to join: `uses` members, each called `name` ("": by its id) and having `roles`."""

    id: str
    secret: bytes = field(repr=False)
    name: str
    roles: tuple[str, ...]
    expires: datetime
    uses: int
    members: tuple[PeerId, ...] = ()

    @property
    def uses_left(self) -> int:
        """How many more members it lets in."""
        return self.uses - len(self.members)


class Invitations:
    """The invitations of the authority in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._ledger = Ledger(directory / INVITATIONS_FILE, _encode, _decode)

    def issue(
        self,
        *,
        name: str = "",
        roles: Sequence[str] = (),
        lifetime: timedelta,
        uses: int = 1,
        now: datetime | None = None,
    ) -> Invitation:
        """Make an invitation and keep it; raises UsageError for values out of bounds."""
        begin = now or datetime.now(UTC)
        if not 0 < lifetime.total_seconds() <= MAX_INVITATION_SECONDS:
            raise UsageError(f"an invitation is open for at most {MAX_INVITATION_SECONDS / 86400:.0f} days")
        if not 0 < uses <= MAX_INVITATION_USES:
            raise UsageError(f"an invitation has 1 to {MAX_INVITATION_USES} uses, not {uses}")
        made = Invitation(
            id=secrets.token_hex(INVITATION_BYTES),
            secret=secrets.token_bytes(SECRET_BYTES),
            name=parse_member_name(name) if name else "",
            roles=parse_roles(roles),
            expires=(begin + lifetime).replace(microsecond=0),
            uses=uses,
        )
        with self._ledger.changing() as entries:
            entries[:] = [each for each in entries if begin < each.expires + _REMEMBERED]
            if len(entries) >= MAX_INVITATIONS:
                raise UsageError(f"this authority has {len(entries)} invitations, the most that it keeps")
            entries.append(made)
        return made

    def find(self, invitation: str) -> Invitation | None:
        """Return an invitation as it is now; None where it is unknown."""
        return next((each for each in self._ledger.load() if each.id == invitation), None)

    def claim(
        self, invitation: str, proof: bytes, request: bytes, *, now: datetime | None = None
    ) -> Invitation:
        """Take one use for the key in `request` (DER) and return the invitation after that.

        The same key may come again, because an answer can be lost on the way: that takes no use.
        Raises NotTrustedError where the invitation is unknown, the proof is not of its secret and this
        request, or it has expired or is used up; only who holds the secret learns the last two.
        """
        with self._ledger.changing() as entries:
            position, found = _find(entries, invitation)
            _check(found, proof, request, now or datetime.now(UTC))
            peer = peer_id_of(parse_request(request))
            if peer in found.members:
                return found
            if found.uses_left < 1:
                times = "once" if found.uses == 1 else f"{found.uses} times"
                raise NotTrustedError(f"the token was used already ({times}, as often as allowed)", fix=_ASK)
            entries[position] = replace(found, members=(*found.members, peer))
            return entries[position]


def _find(entries: Sequence[Invitation], invitation: str) -> tuple[int, Invitation]:
    for position, each in enumerate(entries):
        if each.id == invitation:
            return position, each
    raise NotTrustedError("the authority does not know this invitation", fix=_ASK)


def _check(found: Invitation, proof: bytes, request: bytes, now: datetime) -> None:
    if not is_proven(proof, found.secret, request):
        raise NotTrustedError(
            "the proof does not fit: the token's secret is wrong, or the request was changed on the way",
            fix=_ASK,
        )
    if now >= found.expires:
        raise NotTrustedError(
            f"the token expired at {found.expires:%Y-%m-%d %H:%M} UTC (now {now:%Y-%m-%d %H:%M} UTC)",
            fix=_ASK,
        )


def _encode(invitation: Invitation) -> dict[str, object]:
    return {
        "id": invitation.id,
        "secret": invitation.secret.hex(),
        "name": invitation.name,
        "roles": invitation.roles,
        "expires": invitation.expires.isoformat(),
        "uses": invitation.uses,
        "members": invitation.members,
    }


def _decode(entry: Mapping[str, Any]) -> Invitation:
    return Invitation(
        id=str(entry["id"]),
        secret=bytes.fromhex(entry["secret"]),
        name=str(entry["name"]),
        roles=parse_roles(entry["roles"]),
        expires=datetime.fromisoformat(entry["expires"]),
        uses=int(entry["uses"]),
        members=tuple(parse_peer_id(each) for each in entry["members"]),
    )
