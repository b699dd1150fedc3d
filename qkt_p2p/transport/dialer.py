"""The way to peers over mutual TLS, as discovery needs it."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

from qkt_p2p.errors import PeerUnavailableError
from qkt_p2p.limits import CALL_SECONDS
from qkt_p2p.transport.addresses import split_address
from qkt_p2p.transport.client import PeerClient
from qkt_p2p.transport.identify import identify
from qkt_p2p.transport.tls import TlsLine
from qkt_p2p.types import short

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import grpc

    from qkt_p2p.identity.inspection import CertificateFacts
    from qkt_p2p.identity.standing import Standing
    from qkt_p2p.types import PeerId


class TlsDialer:
    """Identifies and connects as the node that `standing` is about."""

    def __init__(self, standing: Standing) -> None:
        self._standing = standing

    async def identify(self, address: str) -> PeerId:
        """Return who answers at `address`, if it is a member; nobody is dialed with a useless certificate."""
        self._standing.require_own()
        facts = await identify(address, self._standing.identity)
        self._standing.admit(facts)
        return facts.peer_id

    def connect(self, peer: PeerId, address: str) -> PeerClient:
        """Return a client on whose line only `peer` can answer, for as long as it is a member."""
        return PeerClient(peer, MemberLine(peer, address, self._standing))


class MemberLine:
    """A TlsLine that looks who answers before its first call, and at the member's standing before each.

    So nothing is said to whoever is expired or revoked, and the owner is told why: grpc alone says
    "Socket closed". Raises PeerUnavailableError where `address` is none.
    """

    def __init__(self, peer: PeerId, address: str, standing: Standing) -> None:
        split_address(address)
        self.address = address
        self._peer = peer
        self._standing = standing
        self._facts: CertificateFacts | None = None
        self._opening = asyncio.Lock()
        # Made as whoever this node is now: a line outlives a change of its certificate.
        self._identity = standing.identity
        self._line = TlsLine(peer, address, self._identity)

    @property
    def channel(self) -> grpc.aio.Channel:
        """The channel behind the line, for calls of other shapes to a peer that was admitted."""
        return self._line.channel

    async def ask(self, path: str, request: bytes, *, seconds: float) -> bytes:
        """Return the answer, if it comes within `seconds`."""
        await self._admit(seconds)
        return await self._line.ask(path, request, seconds=seconds)

    async def stream(self, path: str, request: bytes) -> AsyncGenerator[bytes]:
        """Yield the parts of an answer."""
        await self._admit(CALL_SECONDS)
        async with aclosing(self._line.stream(path, request)) as parts:
            async for part in parts:
                yield part

    async def close(self) -> None:
        """Close the channel; idempotent."""
        await self._line.close()

    async def _admit(self, seconds: float) -> None:
        """Raise NotTrustedError unless this node is a member at this moment, and whoever answers the peer."""
        self._standing.require_own()
        async with self._opening:
            if self._facts is None and not self._line.closed:
                facts = await identify(self.address, self._identity, seconds=seconds)
                if facts.peer_id != self._peer:
                    raise PeerUnavailableError(f"peer {short(facts.peer_id)} answers in its place")
                self._facts = facts
        if self._facts is not None:
            self._standing.admit(self._facts)
