"""What an authority signed: needed to name, renew and revoke members. Kept next to its key."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from qkt_p2p.errors import NotTrustedError, UsageError
from qkt_p2p.identity.keys import decode_digest
from qkt_p2p.identity.ledger import Ledger
from qkt_p2p.identity.naming import parse_roles
from qkt_p2p.limits import MAX_ISSUED_OF_PEER, MAX_KEYS_OF_MEMBER
from qkt_p2p.types import PEER_ID_CHARACTERS, PeerId, parse_peer_id, short

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from qkt_p2p.identity.authority import IssuedCertificate

ISSUED_FILE: Final = "issued.jsonl"

_REMEMBERED: Final = timedelta(days=180)
"""A certificate is forgotten so long after its expiry."""

_MIN_PREFIX: Final = 8


@dataclass(frozen=True, slots=True)
class IssuedRecord:
    """One certificate that was signed; `replaces` is the peer whose key vouched for a new key, or ""."""

    peer_id: PeerId
    name: str
    roles: tuple[str, ...]
    serial: int
    not_after: datetime
    replaces: str = ""


class IssuedCertificates:
    """The certificates that the authority in `directory` signed."""

    def __init__(self, directory: Path) -> None:
        self._ledger = Ledger(directory / ISSUED_FILE, _encode, _decode)

    def record(
        self,
        issued: IssuedCertificate,
        *,
        replaces: str = "",
        revoked: Collection[PeerId] = (),
        now: datetime | None = None,
    ) -> None:
        """Remember a certificate, and forget what nobody needs any more; nothing of `revoked` peers.

        Raises NotTrustedError, and remembers nothing, where a new key would be one too many of its member.
        """
        made = IssuedRecord(
            issued.peer_id, issued.name, issued.roles, issued.serial, issued.not_after, replaces
        )
        time = now or datetime.now(UTC)
        with self._ledger.changing() as entries:
            if replaces:
                _require_room(entries, made, revoked, time)
            entries[:] = _needed([*entries, made], revoked, time)

    def all(self) -> list[IssuedRecord]:
        """Return every certificate that is remembered, oldest first."""
        return self._ledger.load()

    def resolve(self, who: str) -> PeerId:
        """Return the one peer with this id, beginning of an id (8 characters) or name.

        Of a member that changed its key it is the first. An unknown whole id is taken as it is.
        Raises UsageError for nobody and for several.
        """
        records = self.all()
        found = {each.peer_id for each in records if who in {each.peer_id, each.name}}
        if not found and len(who) >= _MIN_PREFIX:
            found = {each.peer_id for each in records if each.peer_id.startswith(who)}
        if not found and _is_fingerprint(who):
            return PeerId(who)
        found -= {each.peer_id for each in records if each.replaces in found}
        if len(found) == 1:
            return found.pop()
        many = (
            f"{len(found)} members are called {who[:80]!r}" if found else f"no member is called {who[:80]!r}"
        )
        known = ", ".join(sorted({f"{short(each.peer_id)} ({each.name})" for each in records})[:20])
        raise UsageError(many, fix=f"give a peer id; this authority signed for: {known or 'nobody'}")

    def with_successors(self, peer: PeerId) -> list[PeerId]:
        """Return the peer and all whose keys it vouched for, directly or not: one thief may have made all."""
        found = [peer]
        records = self.all()
        for each in found:
            found += sorted({record.peer_id for record in records if record.replaces == each} - set(found))
        return found


def _is_fingerprint(text: str) -> bool:
    try:
        return len(text) == PEER_ID_CHARACTERS and bool(decode_digest(text))
    except ValueError:
        return False


def _require_room(
    records: Sequence[IssuedRecord], made: IssuedRecord, revoked: Collection[PeerId], now: datetime
) -> None:
    """Raise NotTrustedError where the member that `made` is for has MAX_KEYS_OF_MEMBER other keys that count.

    A member is all keys of which one vouched for another, whichever way: names are shared by whoever joined
    with the same token.
    """
    keys, ends = _family(records, made.replaces), dict[PeerId, datetime]()
    for each in records:
        if each.peer_id in keys - {made.peer_id} - set(revoked) and each.not_after > now:
            ends[each.peer_id] = max(each.not_after, ends.get(each.peer_id, now))
    if len(ends) >= MAX_KEYS_OF_MEMBER:
        raise NotTrustedError(
            f"this member has {len(ends)} keys with a valid certificate, and no further one is signed before "
            f"{min(ends.values()):%Y-%m-%d %H:%M} UTC, when the first of them ends",
            fix="qkt-node renew keeps the key; one that was stolen is to be revoked (qkt-node revoke)",
        )


def _family(records: Sequence[IssuedRecord], peer: str) -> set[str]:
    """Return the peer, and all that it is connected to by keys that vouched for others."""
    found, before = {peer}, 0
    while len(found) > before:
        before = len(found)
        for each in records:
            if each.replaces and not found.isdisjoint((each.peer_id, each.replaces)):
                found |= {each.peer_id, each.replaces}
    return found


def _needed(
    records: Sequence[IssuedRecord], revoked: Collection[PeerId], now: datetime
) -> list[IssuedRecord]:
    """Return those of `records`, oldest first, by which members are named, renewed and revoked.

    These are the latest of each peer until long after their expiry, and without an end those of revoked peers
    and those that say by whose key a peer got in that is remembered itself.
    """
    counts: Counter[PeerId] = Counter()
    needed: set[str] = set()
    told: set[tuple[PeerId, str]] = set()
    kept = []
    # Whoever got in by another's key came later: all that needs a record was seen before it.
    for each in reversed(records):
        counts[each.peer_id] += 1
        lasting = each.peer_id in revoked or now < each.not_after + _REMEMBERED
        recent = lasting and counts[each.peer_id] <= MAX_ISSUED_OF_PEER
        way_in = (each.peer_id, each.replaces)
        if recent or (each.replaces and each.peer_id in needed and way_in not in told):
            needed |= set(way_in)
            told.add(way_in)
            kept.append(each)
    return kept[::-1]


def _encode(record: IssuedRecord) -> dict[str, object]:
    return {
        "peer_id": record.peer_id,
        "name": record.name,
        "roles": record.roles,
        "serial": f"{record.serial:x}",
        "not_after": record.not_after.isoformat(),
        "replaces": record.replaces,
    }


def _decode(entry: Mapping[str, Any]) -> IssuedRecord:
    return IssuedRecord(
        peer_id=parse_peer_id(entry["peer_id"]),
        name=str(entry["name"]),
        roles=parse_roles(entry["roles"]),
        serial=int(entry["serial"], 16),
        not_after=datetime.fromisoformat(entry["not_after"]),
        replaces=parse_peer_id(entry["replaces"]) if entry["replaces"] else "",
    )
