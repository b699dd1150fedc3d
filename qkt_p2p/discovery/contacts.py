"""Dials hints until they answer, says hello, and keeps heartbeats going.

One task follows each bootstrap address and one each peer. A failure is noted in the
membership and tried again after a growing, jittered pause that the peer's own sign of life ends.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic

import structlog

from qkt_p2p.discovery.links import Link
from qkt_p2p.discovery.membership import FoundBy
from qkt_p2p.discovery.pace import USUAL_PACE, Pauses
from qkt_p2p.errors import PEER_FAILURES
from qkt_p2p.limits import MAX_ADDRESSES, MAX_PEERS
from qkt_p2p.types import PeerAddress, short

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence

    from qkt_p2p.discovery.links import Dialer, PeerLink
    from qkt_p2p.discovery.membership import Member, Membership
    from qkt_p2p.discovery.pace import Pace
    from qkt_p2p.types import Heartbeat, NodeDescription, PeerId

log = structlog.get_logger(__name__)

EXCHANGED_PEERS: Final = 32
"""Peers told in one exchange."""


@dataclass(slots=True)
class _Contact:
    """Where a followed peer might be dialed, most promising first."""

    found_by: FoundBy
    addresses: list[str] = field(default_factory=list)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    tried: bool = False
    met: bool = False

    def learn(self, addresses: Iterable[str], *, preferred: bool) -> None:
        ordered = [*addresses, *self.addresses] if preferred else [*self.addresses, *addresses]
        self.addresses = list(dict.fromkeys(ordered))[:MAX_ADDRESSES]


class Contacts(Generic[Link]):
    """The connections of one node to its peers.

    `describe` and `beat` tell what this node says of itself at the time of the call.
    """

    def __init__(
        self,
        own: PeerId,
        dialer: Dialer[Link],
        *,
        membership: Membership,
        describe: Callable[[], NodeDescription],
        beat: Callable[[], Heartbeat],
        pace: Pace = USUAL_PACE,
    ) -> None:
        self._own = own
        self._dialer = dialer
        self._membership = membership
        self._describe = describe
        self._beat = beat
        self._pace = pace
        self._links: dict[PeerId, Link] = {}
        self._contacts: dict[PeerId, _Contact] = {}
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = False

    def start(self, bootstrap: Sequence[str]) -> None:
        """Begin to follow the bootstrap addresses."""
        for address in bootstrap:
            self._spawn(self._follow_address(address), f"bootstrap {address}")

    async def stop(self) -> None:
        """Say goodbye to connected peers if this node drains, and close every connection; idempotent."""
        self._stopped = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def reachable(self) -> list[tuple[Member, Link]]:
        """Return the live peers to which a connection is open, by name."""
        return [
            (member, self._links[member.peer])
            for member in self._membership.live()
            if member.peer in self._links
        ]

    async def settle(self, seconds: float) -> None:
        """Return when every live peer was reached or tried in vain, or after `seconds`.

        A peer that has just introduced itself is live before this node has dialed it back.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while any(self._is_untried(member.peer) for member in self._membership.live()):
                    self._changed.clear()
                    await self._changed.wait()

    def hint(self, peer: PeerId, addresses: Sequence[str], found_by: FoundBy) -> None:
        """Take a hint of where `peer` might be dialed; a known peer is tried again at once.

        Not so on hearsay from other peers, who could otherwise make this node dial as fast as they talk.
        """
        if peer == self._own or not addresses or self._stopped:
            return
        known = self._contacts.get(peer)
        if known is None:
            if len(self._contacts) < MAX_PEERS:
                self._follow(peer, addresses, found_by)
            return
        known.learn(addresses, preferred=found_by is not FoundBy.EXCHANGE)
        if found_by is not FoundBy.EXCHANGE:
            known.wake.set()

    def _is_untried(self, peer: PeerId) -> bool:
        contact = self._contacts.get(peer)
        return contact is not None and not contact.tried

    def _follow(self, peer: PeerId, addresses: Sequence[str], found_by: FoundBy) -> None:
        contact = self._contacts[peer] = _Contact(found_by)
        contact.learn(addresses, preferred=True)
        self._spawn(self._follow_peer(peer, contact), f"peer {short(peer)}")

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("contact_task_failed", task=task.get_name(), error=repr(error), exc_info=error)

    async def _follow_address(self, address: str) -> None:
        """Find out who answers at a bootstrap address; then its peer is followed."""
        pauses = Pauses(self._pace)
        while True:
            pause = self._pace.redial[1]
            if all(link.address != address for link in self._links.values()):
                try:
                    peer = await self._dialer.identify(address)
                except PEER_FAILURES as error:
                    pauses.log("bootstrap_unreachable", address, error)
                    pause = pauses.next()
                else:
                    if peer == self._own:
                        log.debug("bootstrap_is_this_node", address=address)
                        return
                    self.hint(peer, [address], FoundBy.BOOTSTRAP)
                    pauses.reset()
            await asyncio.sleep(pause)

    async def _follow_peer(self, peer: PeerId, contact: _Contact) -> None:
        """Keep a connection to `peer`, over whichever of its addresses answers."""
        pauses = Pauses(self._pace)
        rounds = 0
        try:
            while contact.met or rounds < self._pace.rounds_for_strangers:
                contact.wake.clear()
                for address in list(contact.addresses):
                    try:
                        await self._keep(peer, address, pauses)
                    except PEER_FAILURES as error:
                        pauses.log("peer_unreachable", address, error)
                self._note_tried(contact)
                rounds += 1
                with suppress(TimeoutError):
                    async with asyncio.timeout(pauses.next()):
                        await contact.wake.wait()
            log.info("peer_forgotten", peer=short(peer), rounds=rounds)
        finally:
            del self._contacts[peer]
            self._changed.set()

    async def _keep(self, peer: PeerId, address: str, pauses: Pauses) -> None:
        """Say hello at `address`, then exchange beats until one fails."""
        link = self._dialer.connect(peer, address)
        try:
            await self._introduce(link)
            pauses.reset()
            self._links[peer] = link
            contact = self._contacts[peer]
            contact.met = True
            contact.learn([address], preferred=True)
            self._note_tried(contact)
            await self._converse(link)
        finally:
            if self._links.pop(peer, None) is not None:
                self._membership.lose(peer)
            await self._leave(link)

    def _note_tried(self, contact: _Contact) -> None:
        contact.tried = True
        self._changed.set()

    async def _converse(self, link: PeerLink) -> None:
        beats = 0
        while True:
            if beats % self._pace.exchange_every_beats == 0:
                await self._exchange(link)
            await self._exchange_beats(link)
            beats += 1
            await asyncio.sleep(self._pace.next_beat())

    async def _introduce(self, link: PeerLink) -> None:
        description = await link.hello(self._describe())
        found_by = self._contacts[link.peer].found_by
        self._membership.introduce(link.peer, description, address=link.address, found_by=found_by)
        log.info("peer_connected", peer=short(link.peer), name=description.node_name, address=link.address)

    async def _exchange_beats(self, link: PeerLink) -> None:
        started = time.monotonic()
        beat = await link.heartbeat(self._beat())
        self._membership.hear(link.peer, draining=beat.draining, round_trip=time.monotonic() - started)
        if beat.model_version != self._membership.known_version(link.peer):
            await self._introduce(link)

    async def _exchange(self, link: PeerLink) -> None:
        live = [
            PeerAddress(member.peer, (member.address,))
            for member in self._membership.live()
            if member.address and member.peer != link.peer
        ]
        for found in await link.exchange_peers(live[:EXCHANGED_PEERS]):
            self.hint(found.peer, found.addresses, FoundBy.EXCHANGE)

    async def _leave(self, link: PeerLink) -> None:
        """Tell the peer if this node is draining, and close."""
        try:
            if self._beat().draining:
                async with asyncio.timeout(self._pace.goodbye):
                    await link.heartbeat(self._beat())
        except (*PEER_FAILURES, TimeoutError) as error:
            log.debug("goodbye_unheard", peer=short(link.peer), error=str(error))
        finally:
            await link.close()
