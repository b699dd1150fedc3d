"""What discovery needs of a transport: somebody who dials, and connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qkt_p2p.types import Heartbeat, NodeDescription, PeerAddress, PeerId


class PeerLink(Protocol):
    """A connection to one peer; every call has a deadline and raises PEER_FAILURES."""

    peer: PeerId
    address: str

    async def hello(self, node: NodeDescription) -> NodeDescription:
        """Introduce this node and return the peer's description."""
        ...

    async def heartbeat(self, beat: Heartbeat) -> Heartbeat:
        """Send a beat and return the peer's."""
        ...

    async def exchange_peers(self, peers: Sequence[PeerAddress]) -> tuple[PeerAddress, ...]:
        """Tell live peers and return the peer's."""
        ...

    async def close(self) -> None:
        """Close the connection."""
        ...


Link = TypeVar("Link", bound=PeerLink)
Link_co = TypeVar("Link_co", bound=PeerLink, covariant=True)


class Dialer(Protocol[Link_co]):
    """The way to peers; both methods raise PEER_FAILURES."""

    async def identify(self, address: str) -> PeerId:
        """Return who answers at `address`."""
        ...

    def connect(self, peer: PeerId, address: str) -> Link_co:
        """Return a connection on which only `peer` can answer."""
        ...
