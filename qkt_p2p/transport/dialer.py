"""The way to peers over mutual TLS, as discovery needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qkt_p2p.transport.client import PeerClient
from qkt_p2p.transport.identify import identify
from qkt_p2p.transport.tls import TlsLine

if TYPE_CHECKING:
    from qkt_p2p.identity.trust import Identity
    from qkt_p2p.types import PeerId


class TlsDialer:
    """Identifies and connects as one node."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    async def identify(self, address: str) -> PeerId:
        """Return who answers at `address`."""
        return await identify(address, self._identity)

    def connect(self, peer: PeerId, address: str) -> PeerClient:
        """Return a client on whose line only `peer` can answer."""
        return PeerClient(peer, TlsLine(peer, address, self._identity))
