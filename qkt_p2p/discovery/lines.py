"""The open connections of one node: to peers that it dialed, and lent by peers that nobody can dial."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic

import structlog

from qkt_p2p.discovery.links import Link
from qkt_p2p.types import short

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qkt_p2p.discovery.member import Member
    from qkt_p2p.discovery.membership import Membership
    from qkt_p2p.types import PeerId

log = structlog.get_logger(__name__)


class Lines(Generic[Link]):
    """Who can be asked over what; `changed` is set when somebody new can be."""

    def __init__(self, membership: Membership) -> None:
        self.dialed: dict[PeerId, Link] = {}
        self.changed = asyncio.Event()
        self._lent: dict[PeerId, Link] = {}
        self._membership = membership

    def __contains__(self, peer: PeerId) -> bool:
        return peer in self.dialed or peer in self._lent

    async def to(self, peer: PeerId) -> Link:
        """Return a connection to a peer, when there is one."""
        while (link := self.dialed.get(peer) or self._lent.get(peer)) is None:
            self.changed.clear()
            await self.changed.wait()
        return link

    def reachable(self) -> list[tuple[Member, Link]]:
        """Return the live peers to which a connection is open, by name."""
        links = self._lent | self.dialed
        return [(member, links[member.peer]) for member in self._membership.live() if member.peer in links]

    @contextmanager
    def lent(self, link: Link) -> Iterator[None]:
        """Have a peer that cannot be dialed asked over a connection that it opened, for the block.

        It is live for as long as it is heard, by the beats that it sends.
        """
        peer = link.peer
        self._lent[peer] = link
        self.changed.set()
        log.info("peer_attached", peer=short(peer))
        try:
            yield
        finally:
            if self._lent.get(peer) is link:
                del self._lent[peer]
                if peer not in self.dialed:
                    self._membership.lose(peer)
