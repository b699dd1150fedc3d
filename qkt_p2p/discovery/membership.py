"""What a node knows of each peer; states follow from one local monotonic clock."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qkt_p2p.discovery.member import Conduct, FoundBy, Member, MemberState
from qkt_p2p.discovery.pace import doubled
from qkt_p2p.limits import (
    ABSENCE_SECONDS,
    ABSENCES,
    BAN_SECONDS,
    GONE_AFTER_SECONDS,
    HEARSAY_SILENT_AFTER_SECONDS,
    MAX_PEERS,
    SILENT_AFTER_SECONDS,
)
from qkt_p2p.types import NodeDescription, PeerAddress

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from qkt_p2p.types import PeerId


@dataclass(slots=True)
class _Record:
    description: NodeDescription
    address: str
    found_by: FoundBy
    heard_at: float
    round_trip: float = 0.0
    draining: bool = False
    # When the connection failed; hearsay from before that says nothing.
    lost_at: float | None = None
    # Whether the peer itself is heard, rather than others who hear it.
    direct: bool = True
    banned_until: float = float("-inf")
    bans: int = 0
    absences: int = 0


class Membership:
    """The peers of this node; at most MAX_PEERS, the longest unheard one makes room."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._records: dict[PeerId, _Record] = {}
        self._revoked: frozenset[PeerId] = frozenset()
        self._changed = asyncio.Event()
        self.joins = 0

    def introduce(
        self, peer: PeerId, description: NodeDescription, *, address: str, found_by: FoundBy
    ) -> None:
        """Note a hello from `peer`, dialed at `address` ("" where it dialed us)."""
        known = self._records.get(peer)
        if known is None:
            self._make_room()
            self._records[peer] = _Record(description, address, found_by, self._clock())
            self.joins += 1
        else:
            known.description = description
            known.address = address or known.address
            known.heard_at = self._clock()
            known.draining, known.lost_at, known.direct = False, None, True
        self._notify()

    def hear(self, peer: PeerId, *, draining: bool | None = None, round_trip: float = 0.0) -> None:
        """Note a sign of life of a peer that was introduced; others are ignored.

        A heartbeat tells whether it is `draining`; parts of a response tell that it lives, and no more.
        """
        record = self._records.get(peer)
        if record is None:
            return
        before = self._member(peer, record).state
        record.heard_at = self._clock()
        record.draining = record.draining if draining is None else draining
        record.lost_at, record.direct = None, True
        record.round_trip = round_trip or record.round_trip
        if self._member(peer, record).state is not before:
            self._notify()

    def lose(self, peer: PeerId) -> None:
        """Note that the connection to `peer` failed: it is not live until it is heard again."""
        record = self._records.get(peer)
        if record is not None:
            record.lost_at = self._clock()
            self._notify()

    def release(self, peer: PeerId) -> None:
        """Note that `peer` is well but from now on only known by hearsay."""
        record = self._records.get(peer)
        if record is not None:
            record.direct = False

    def hearsay(self, told: PeerAddress) -> None:
        """Note that a peer says it heard of another; what this node hears itself counts for more."""
        heard_at = self._clock() - told.age
        record = self._records.get(told.peer)
        if record is None:
            self._make_room()
            description = NodeDescription(0, told.name, "", (), (), told.addresses, 0)
            self._records[told.peer] = _Record(
                description, told.addresses[0], FoundBy.EXCHANGE, heard_at, direct=False
            )
            self.joins += 1
            self._notify()
        elif heard_at > max(record.heard_at, record.lost_at or heard_at - 1):
            record.direct = record.direct and self._clock() - record.heard_at <= SILENT_AFTER_SECONDS
            if not record.direct:
                record.heard_at, record.lost_at = heard_at, None

    def judge(self, peer: PeerId, conduct: Conduct) -> float:
        """Leave a peer alone that did not do well as a teacher; returns for how many seconds.

        One that broke the protocol is left alone each time twice as long; one that went away is so from the
        second time in a row on. All is forgiven when it taught.
        """
        record = self._records.get(peer)
        if record is None:
            return 0.0
        if conduct is Conduct.TAUGHT:
            record.bans = record.absences = 0
            return 0.0
        if conduct is Conduct.BROKE_PROTOCOL:
            record.bans += 1
            seconds = doubled(BAN_SECONDS, record.bans)
        else:
            record.absences += 1
            seconds = doubled(ABSENCE_SECONDS, record.absences - ABSENCES + 1)
        if seconds:
            record.banned_until = max(record.banned_until, self._clock() + seconds)
            self._notify()
        return seconds

    def revoke(self, peers: frozenset[PeerId]) -> None:
        """Show `peers`, and nobody else, as revoked: no longer members, whatever is heard of them."""
        self._revoked = peers
        self._notify()

    def known_version(self, peer: PeerId) -> int | None:
        """Return the model version that `peer` described in its last hello, or None."""
        record = self._records.get(peer)
        return None if record is None else record.description.model_version

    def members(self) -> list[Member]:
        """Return every known peer by name, then id."""
        found = [self._member(peer, record) for peer, record in self._records.items()]
        return sorted(found, key=lambda member: (member.description.node_name, member.peer))

    def live(self) -> list[Member]:
        """Return the peers that can be asked now, by name."""
        return [member for member in self.members() if member.state is MemberState.LIVE]

    def left_alone(self) -> list[Member]:
        """Return the peers that are not asked for a while, by name."""
        return [member for member in self.members() if member.state is MemberState.BANNED]

    def told_to(self, peer: PeerId) -> list[PeerAddress]:
        """Return what to tell `peer` of the live peers: where each answered, then what it announces."""
        return [
            PeerAddress(
                peer=member.peer,
                addresses=member.dialable,
                name=member.description.node_name,
                age=member.last_seen,
            )
            for member in self.live()
            if member.address and member.peer != peer
        ]

    async def wait_for_live(self, count: int, peers: Collection[PeerId] = ()) -> None:
        """Return when at least `count` peers are live, and all of `peers`; the caller limits the time."""
        while not self.are_live(count, peers):
            self._changed.clear()
            await self._changed.wait()

    def are_live(self, count: int, peers: Collection[PeerId]) -> bool:
        """Return whether at least `count` peers are live, and all of `peers`."""
        live = {member.peer for member in self.live()}
        return len(live) >= count and live.issuperset(peers)

    def _member(self, peer: PeerId, record: _Record) -> Member:
        age = self._clock() - record.heard_at
        return Member(
            peer=peer,
            description=record.description,
            address=record.address,
            found_by=record.found_by,
            state=MemberState.REVOKED
            if peer in self._revoked
            else _state(record, age, banned=record.banned_until > self._clock()),
            last_seen=age,
            round_trip=record.round_trip,
        )

    def _make_room(self) -> None:
        if len(self._records) >= MAX_PEERS:
            del self._records[min(self._records, key=lambda peer: self._records[peer].heard_at)]

    def _notify(self) -> None:
        self._changed.set()


def _state(record: _Record, age: float, *, banned: bool) -> MemberState:
    patience = SILENT_AFTER_SECONDS if record.direct else HEARSAY_SILENT_AFTER_SECONDS
    if age > GONE_AFTER_SECONDS:
        return MemberState.GONE
    if banned:
        return MemberState.BANNED
    if record.draining:
        return MemberState.DRAINING
    if record.lost_at is not None or age > patience:
        return MemberState.SILENT
    return MemberState.LIVE
