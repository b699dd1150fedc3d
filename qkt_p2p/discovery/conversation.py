"""What is said on one connection: hello, exchanges of peers, beats, goodbye."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic

import structlog

from qkt_p2p.discovery.links import Link
from qkt_p2p.errors import PEER_FAILURES, PeerRefusedError
from qkt_p2p.types import short

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from qkt_p2p.discovery.book import Contact
    from qkt_p2p.discovery.membership import Membership
    from qkt_p2p.discovery.pace import Pace
    from qkt_p2p.types import Heartbeat, NodeDescription

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Voice(Generic[Link]):
    """What this node says of itself at the time of the call; `heard` is told of every answered beat."""

    describe: Callable[[], NodeDescription]
    beat: Callable[[], Heartbeat]
    heard: Callable[[Link, Heartbeat], Awaitable[None]] | None = None


class Conversation(Generic[Link]):
    """One connection to one contact; every method but `leave` raises PEER_FAILURES."""

    def __init__(
        self, link: Link, contact: Contact, *, voice: Voice[Link], membership: Membership, pace: Pace
    ) -> None:
        self._link = link
        self._contact = contact
        self._voice = voice
        self._membership = membership
        self._pace = pace

    async def introduce(self) -> None:
        """Say hello, and note what the peer says of itself."""
        link, contact, own = self._link, self._contact, self._voice.describe()
        description = await link.hello(own)
        contact.told = own
        contact.learn(description.addresses, preferred=False)
        self._membership.introduce(link.peer, description, address=link.address, found_by=contact.found_by)
        log.info("peer_connected", peer=short(link.peer), name=description.node_name, address=link.address)

    async def run(self, *, needed: Callable[[], bool], exchange: Callable[[Link], Awaitable[None]]) -> None:
        """Exchange beats for as long as the peer is needed, and peers when there is news and now and then."""
        beats, told = 0, -1
        while beats == 0 or needed():
            if beats % self._pace.exchange_every_beats == 0 or told != self._membership.joins:
                told = self._membership.joins
                await exchange(self._link)
            await self._exchange_beats()
            beats += 1
            await asyncio.sleep(self._pace.next_beat())

    async def leave(self, *, goodbye: bool) -> None:
        """Tell the peer if this node is draining or now another peer, and close."""
        try:
            beat = self._voice.beat()
            if beat.draining or goodbye:
                async with asyncio.timeout(self._pace.goodbye):
                    await self._link.heartbeat(replace(beat, draining=True))
        except (*PEER_FAILURES, TimeoutError) as error:
            log.debug("goodbye_unheard", peer=short(self._link.peer), error=str(error))
        finally:
            await self._link.close()

    async def _exchange_beats(self) -> None:
        link, own, started = self._link, self._voice.beat(), time.monotonic()
        try:
            beat = await link.heartbeat(own)
        except PeerRefusedError:
            # A peer that restarted meanwhile answers on the same connection, and knows nobody.
            await self.introduce()
            return
        self._membership.hear(link.peer, draining=beat.draining, round_trip=time.monotonic() - started)
        # A peer learns only so that this node's model or its addresses changed.
        if (
            self._contact.told != self._voice.describe()
            or beat.model_version != self._membership.known_version(link.peer)
        ):
            await self.introduce()
        if self._voice.heard is not None:
            await self._voice.heard(link, beat)
