"""What a node answers to the other members of its federation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from qkt_p2p.types import (
        Heartbeat,
        NodeDescription,
        PeerAddress,
        PeerId,
        ProbeReport,
        ProbeRequest,
        TeachPart,
        TeachRequest,
    )


class PeerHandler(Protocol):
    """The calls of PeerService on domain types; `caller` is proven by TLS.

    A QktError that leaves a method reaches the caller as a status with its message.
    """

    async def hello(self, caller: PeerId, node: NodeDescription) -> NodeDescription:
        """Take the caller's description and return this node's."""
        ...

    async def heartbeat(self, caller: PeerId, beat: Heartbeat) -> Heartbeat:
        """Note that the caller is alive and return this node's beat."""
        ...

    async def exchange_peers(self, caller: PeerId, peers: tuple[PeerAddress, ...]) -> tuple[PeerAddress, ...]:
        """Take the caller's live peers as hints and return this node's."""
        ...

    async def exchange_revocations(self, caller: PeerId, lists: bytes) -> bytes:
        """Take the caller's revocation lists (PEM, unverified) and return this node's."""
        ...

    async def probe(self, caller: PeerId, request: ProbeRequest) -> ProbeReport:
        """Return evidence of what this node's model knows."""
        ...

    def teach(self, caller: PeerId, request: TeachRequest) -> AsyncGenerator[TeachPart]:
        """Yield waits, one offer, its chunks that the caller does not hold, and an end.

        A call that ends early closes the generator.
        """
        ...
