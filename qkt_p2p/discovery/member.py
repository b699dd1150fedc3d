"""One peer at one moment, and the words for how it was found, stands and behaved."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from qkt_p2p.limits import MAX_ADDRESSES

if TYPE_CHECKING:
    from qkt_p2p.types import NodeDescription, PeerId


class MemberState(StrEnum):
    """How a peer stands: only live ones are asked."""

    LIVE = "live"
    SILENT = "silent"
    DRAINING = "draining"
    BANNED = "banned"
    REVOKED = "revoked"
    GONE = "gone"


class Conduct(StrEnum):
    """How a peer did as a teacher."""

    TAUGHT = "taught"
    WENT_AWAY = "went away"
    BROKE_PROTOCOL = "broke the protocol"


class FoundBy(StrEnum):
    """What first told of a peer."""

    BOOTSTRAP = "bootstrap"
    MDNS = "mdns"
    EXCHANGE = "exchange"
    INBOUND = "inbound"


@dataclass(frozen=True, slots=True)
class Member:
    """One peer at one moment; `last_seen` is seconds ago, `round_trip` seconds (0 if unmeasured).

    Of a peer known by hearsay the description holds the name alone.
    """

    peer: PeerId
    description: NodeDescription
    address: str
    found_by: FoundBy
    state: MemberState
    last_seen: float
    round_trip: float

    @property
    def dialable(self) -> tuple[str, ...]:
        """Where it might be dialed: where it answered, then what it announces."""
        known = (self.address, *self.description.addresses)
        return tuple(dict.fromkeys(address for address in known if address))[:MAX_ADDRESSES]
