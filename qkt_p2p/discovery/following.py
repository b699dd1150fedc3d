"""Follows a peer: dials its addresses until one answers, and keeps the conversation while it is needed.

A failure is noted in the membership and tried again after a growing, jittered pause that the peer's own
sign of life ends.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Generic

import structlog

from qkt_p2p.discovery.conversation import Conversation
from qkt_p2p.discovery.links import Link
from qkt_p2p.discovery.pace import Pauses
from qkt_p2p.errors import PEER_FAILURES
from qkt_p2p.types import short

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from qkt_p2p.discovery.book import Contact, ContactBook
    from qkt_p2p.discovery.conversation import Voice
    from qkt_p2p.discovery.lines import Lines
    from qkt_p2p.discovery.links import Dialer
    from qkt_p2p.discovery.membership import Membership
    from qkt_p2p.discovery.pace import Pace

log = structlog.get_logger(__name__)


class Follower(Generic[Link]):
    """Follows the peers of a `book`; `lines` hold the connections, `exchange` tells each of the others."""

    def __init__(
        self,
        dialer: Dialer[Link],
        voice: Voice[Link],
        *,
        book: ContactBook,
        lines: Lines[Link],
        membership: Membership,
        pace: Pace,
        exchange: Callable[[Link], Awaitable[None]],
    ) -> None:
        self._dialer = dialer
        self._voice = voice
        self._book = book
        self._lines = lines
        self._membership = membership
        self._pace = pace
        self._exchange = exchange

    async def follow(self, contact: Contact) -> None:
        """Keep a connection to a peer, over whichever of its addresses answers, until it is forgotten."""
        pauses = Pauses(self._pace)
        rounds = 0
        try:
            while contact.met or rounds < self._pace.rounds_for_strangers:
                contact.wake.clear()
                pause = self._pace.redial[1]
                if self._book.needs(contact) and not await self._try_addresses(contact, pauses):
                    rounds += 1
                    self._book.note_failure(contact)
                    pause = pauses.next()
                self._note_tried(contact)
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await contact.wake.wait()
            log.info("peer_forgotten", peer=short(contact.peer), rounds=rounds)
        finally:
            self._book.remove(contact)
            self._lines.changed.set()

    async def _try_addresses(self, contact: Contact, pauses: Pauses) -> bool:
        """Talk over the first address that answers; return whether this ended because it is not needed."""
        for address in list(contact.addresses):
            try:
                await self._keep(contact, address, pauses)
            except PEER_FAILURES as error:
                contact.failure = error.message
                pauses.log("peer_unreachable", address, error)
            else:
                return True
        return False

    async def _keep(self, contact: Contact, address: str, pauses: Pauses) -> None:
        """Say hello at `address`, then exchange beats until one fails or the peer is not needed."""
        peer = contact.peer
        contact.outdated, contact.connected_as = False, self._book.own
        link = self._dialer.connect(peer, address)
        talk = Conversation(link, contact, voice=self._voice, membership=self._membership, pace=self._pace)
        try:
            await talk.introduce()
            pauses.reset()
            self._lines.dialed[peer] = link
            self._book.note_success(contact)
            contact.learn([address], preferred=True)
            self._note_tried(contact)
            await talk.run(needed=lambda: self._book.needs(contact), exchange=self._exchange)
            self._membership.release(peer)
            del self._lines.dialed[peer]
        finally:
            if self._lines.dialed.pop(peer, None) is not None:
                self._membership.lose(peer)
            if contact.outdated:
                contact.outdated = False
                contact.wake.set()
            await talk.leave(goodbye=contact.connected_as != self._book.own)

    def _note_tried(self, contact: Contact) -> None:
        contact.tried = True
        self._lines.changed.set()
