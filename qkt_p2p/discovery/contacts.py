"""Dials hints until they answer, says hello, and keeps heartbeats going.

One task follows each bootstrap address and one each peer. A failure is noted in the
membership and tried again after a growing, jittered pause that the peer's own sign of life ends.

Heartbeats go to this node's neighbours on a ring alone, so what a node spends does not grow with its
federation; of the others it hears by exchanges, and it dials them when a query wants them.
"""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Generic

import structlog

from qkt_p2p.discovery.links import Link
from qkt_p2p.discovery.membership import FoundBy
from qkt_p2p.discovery.pace import USUAL_PACE, Pauses
from qkt_p2p.discovery.ring import neighbours
from qkt_p2p.errors import PEER_FAILURES
from qkt_p2p.limits import MAX_ADDRESSES, MAX_PEERS, MAX_PEERS_PER_EXCHANGE
from qkt_p2p.types import PeerAddress, short

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence

    from qkt_p2p.discovery.links import Dialer, PeerLink
    from qkt_p2p.discovery.membership import Member, Membership
    from qkt_p2p.discovery.pace import Pace
    from qkt_p2p.types import Heartbeat, NodeDescription, PeerId

log = structlog.get_logger(__name__)

FAILING_ROUNDS: Final = 2
"""A peer that did not answer this often in a row makes room for another neighbour."""


@dataclass(slots=True)
class _Contact:
    """Where a followed peer might be dialed, most promising first, and who needs it."""

    peer: PeerId
    found_by: FoundBy
    addresses: list[str] = field(default_factory=list)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    tried: bool = False
    met: bool = False
    failures: int = 0
    borrowers: int = 0
    # Version of this node's model of which the peer was told.
    told_version: int = -1
    task: asyncio.Task[None] | None = None
    # As whom this node is connected, and whether it shows something else by now.
    connected_as: PeerId | None = None
    outdated: bool = False

    def learn(self, addresses: Iterable[str], *, preferred: bool) -> None:
        ordered = [*addresses, *self.addresses] if preferred else [*self.addresses, *addresses]
        self.addresses = list(dict.fromkeys(ordered))[:MAX_ADDRESSES]


class Contacts(Generic[Link]):
    """The connections of one node to its peers.

    `describe` and `beat` tell what this node says of itself at the time of the call; `heard` is told of
    every beat that a peer answered, and may call the peer.
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
        heard: Callable[[Link, Heartbeat], Awaitable[None]] | None = None,
    ) -> None:
        self._own = own
        self._dialer = dialer
        self._membership = membership
        self._describe = describe
        self._beat = beat
        self._pace = pace
        self._heard = heard
        self._refused: frozenset[PeerId] = frozenset()
        self._links: dict[PeerId, Link] = {}
        self._adopted: dict[PeerId, Link] = {}
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
        links = self._adopted | self._links
        return [(member, links[member.peer]) for member in self._membership.live() if member.peer in links]

    @contextmanager
    def adopted(self, link: Link) -> Iterator[None]:
        """Have a peer that cannot be dialed asked over a connection that it opened, for the block.

        It is live for as long as it is heard, by the beats that it sends.
        """
        peer = link.peer
        self._adopted[peer] = link
        self._changed.set()
        log.info("peer_attached", peer=short(peer))
        if self._membership.known_version(peer) is None:
            # It was introduced to who this node was before a restart.
            self._spawn(self._meet(link), f"meet {short(peer)}")
        try:
            yield
        finally:
            if self._adopted.get(peer) is link:
                del self._adopted[peer]
                if peer not in self._links:
                    self._membership.lose(peer)

    @asynccontextmanager
    async def gathered(self, seconds: float) -> AsyncIterator[list[tuple[Member, Link]]]:
        """Connect to every live peer, and keep these connections for the block.

        Waits until each was reached or tried in vain, at most `seconds`.
        """
        wanted = [self._contacts[m.peer] for m in self._membership.live() if m.peer in self._contacts]
        for contact in wanted:
            contact.borrowers += 1
            if not self._is_reached(contact):
                contact.tried = False
                contact.wake.set()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while not all(contact.tried or self._is_reached(contact) for contact in wanted):
                        self._changed.clear()
                        await self._changed.wait()
            yield self.reachable()
        finally:
            for contact in wanted:
                contact.borrowers -= 1

    def refuse(self, peers: frozenset[PeerId]) -> None:
        """Be connected to none of `peers` any longer, nor dial them; calls that run to them fail."""
        self._refused = peers
        for contact in [each for peer, each in self._contacts.items() if peer in peers]:
            contact.tried = True
            if contact.task is not None:
                contact.task.cancel()

    def become(self, own: PeerId) -> None:
        """Make connections anew, because this node shows something else: it may be another peer now.

        Those that a query borrows last until it ends. Where the key changed, peers hear a goodbye of
        whom they knew.
        """
        self._own = own
        for peer in self._links:
            self._contacts[peer].outdated = True

    def tell(self, peer: PeerId) -> list[PeerAddress]:
        """Return some live peers for an exchange with `peer`, a fresh choice each time."""
        live = [
            PeerAddress(member.peer, _addresses(member), member.description.node_name, member.last_seen)
            for member in self._membership.live()
            if member.address and member.peer != peer
        ]
        return random.sample(live, min(len(live), MAX_PEERS_PER_EXCHANGE))

    def take(self, told: Iterable[PeerAddress]) -> None:
        """Take in what a peer told in an exchange."""
        for each in told:
            if each.peer != self._own and each.addresses:
                self._membership.hearsay(each)
                self.hint(each.peer, each.addresses, FoundBy.EXCHANGE)

    def hint(self, peer: PeerId, addresses: Sequence[str], found_by: FoundBy) -> None:
        """Take a hint of where `peer` might be dialed; a known peer is tried again at once.

        Not so on hearsay from other peers, who could otherwise make this node dial as fast as they talk.
        """
        if peer == self._own or peer in self._refused or not addresses or self._stopped:
            return
        known = self._contacts.get(peer)
        if known is None:
            if len(self._contacts) < MAX_PEERS:
                self._follow(peer, addresses, found_by)
            return
        known.learn(addresses, preferred=found_by is not FoundBy.EXCHANGE)
        if found_by is not FoundBy.EXCHANGE:
            known.wake.set()

    def _is_reached(self, contact: _Contact) -> bool:
        return contact.peer in self._links or contact.peer in self._adopted

    def _is_needed(self, contact: _Contact) -> bool:
        """Tell whether to be connected to a peer: it is a neighbour, or a query borrows it.

        Neighbours that fail are still tried, and their places are taken by others meanwhile.
        """
        if contact.borrowers:
            return True
        if contact.outdated:
            return False
        well = [peer for peer, each in self._contacts.items() if each.failures < FAILING_ROUNDS]
        return contact.peer in neighbours(self._own, self._contacts) or contact.peer in neighbours(
            self._own, well
        )

    def _follow(self, peer: PeerId, addresses: Sequence[str], found_by: FoundBy) -> None:
        contact = self._contacts[peer] = _Contact(peer, found_by)
        contact.learn(addresses, preferred=True)
        contact.task = self._spawn(self._follow_peer(peer, contact), f"peer {short(peer)}")

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

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
                pause = self._pace.redial[1]
                if self._is_needed(contact) and not await self._try_addresses(contact, pauses):
                    rounds += 1
                    contact.failures += 1
                    pause = pauses.next()
                self._note_tried(contact)
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await contact.wake.wait()
            log.info("peer_forgotten", peer=short(peer), rounds=rounds)
        finally:
            del self._contacts[peer]
            self._changed.set()

    async def _try_addresses(self, contact: _Contact, pauses: Pauses) -> bool:
        """Talk over the first address that answers; return whether this ended because it is not needed."""
        for address in list(contact.addresses):
            try:
                await self._keep(contact.peer, address, pauses)
            except PEER_FAILURES as error:
                pauses.log("peer_unreachable", address, error)
            else:
                return True
        return False

    async def _keep(self, peer: PeerId, address: str, pauses: Pauses) -> None:
        """Say hello at `address`, then exchange beats until one fails or the peer is not needed."""
        contact = self._contacts[peer]
        contact.outdated, contact.connected_as = False, self._own
        link = self._dialer.connect(peer, address)
        try:
            await self._introduce(link)
            pauses.reset()
            self._links[peer] = link
            contact.met = True
            contact.failures = 0
            contact.learn([address], preferred=True)
            self._note_tried(contact)
            await self._converse(link, contact)
            self._membership.release(peer)
            del self._links[peer]
            if contact.outdated:
                contact.wake.set()
        finally:
            if self._links.pop(peer, None) is not None:
                self._membership.lose(peer)
            await self._leave(link, goodbye=contact.connected_as != self._own)

    def _note_tried(self, contact: _Contact) -> None:
        contact.tried = True
        self._changed.set()

    async def _converse(self, link: Link, contact: _Contact) -> None:
        beats, told = 0, -1
        while beats == 0 or self._is_needed(contact):
            if beats % self._pace.exchange_every_beats == 0 or told != self._membership.joins:
                told = self._membership.joins
                self.take(await link.exchange_peers(self.tell(link.peer)))
            await self._exchange_beats(link)
            beats += 1
            await asyncio.sleep(self._pace.next_beat())

    async def _introduce(self, link: PeerLink) -> None:
        contact, own = self._contacts[link.peer], self._describe()
        description = await link.hello(own)
        contact.told_version = own.model_version
        contact.learn(description.addresses, preferred=False)
        self._membership.introduce(link.peer, description, address=link.address, found_by=contact.found_by)
        log.info("peer_connected", peer=short(link.peer), name=description.node_name, address=link.address)

    async def _meet(self, link: PeerLink) -> None:
        """Introduce a peer over a connection that it opened."""
        try:
            description = await link.hello(self._describe())
        except PEER_FAILURES as error:
            log.warning("attached_peer_silent", peer=short(link.peer), error=error.message)
        else:
            self._membership.introduce(link.peer, description, address="", found_by=FoundBy.INBOUND)

    async def _exchange_beats(self, link: Link) -> None:
        started = time.monotonic()
        own = self._beat()
        beat = await link.heartbeat(own)
        self._membership.hear(link.peer, draining=beat.draining, round_trip=time.monotonic() - started)
        # A peer that cannot dial this node learns only so that its model changed.
        told = self._contacts[link.peer].told_version == own.model_version
        if not told or beat.model_version != self._membership.known_version(link.peer):
            await self._introduce(link)
        if self._heard is not None:
            await self._heard(link, beat)

    async def _leave(self, link: PeerLink, *, goodbye: bool) -> None:
        """Tell the peer if this node is draining or now another peer, and close."""
        try:
            beat = self._beat()
            if beat.draining or goodbye:
                async with asyncio.timeout(self._pace.goodbye):
                    await link.heartbeat(replace(beat, draining=True))
        except (*PEER_FAILURES, TimeoutError) as error:
            log.debug("goodbye_unheard", peer=short(link.peer), error=str(error))
        finally:
            await link.close()


def _addresses(member: Member) -> tuple[str, ...]:
    """Return where a peer answered, then where it says that it can be dialed."""
    return tuple(dict.fromkeys((member.address, *member.description.addresses)))[:MAX_ADDRESSES]
