"""Dials hints until they answer, says hello, and keeps heartbeats going.

One task follows each bootstrap address and one each peer. A failure is noted in the
membership and tried again after a growing, jittered pause that any sign of life ends.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import structlog

from qkt_p2p.discovery.membership import FoundBy
from qkt_p2p.errors import NotTrustedError, PeerError
from qkt_p2p.limits import HEARTBEAT_SECONDS, MAX_PEERS, REDIAL_SECONDS
from qkt_p2p.types import PeerAddress, short

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from qkt_p2p.discovery.membership import Member, Membership
    from qkt_p2p.types import Heartbeat, NodeDescription, PeerId

log = structlog.get_logger(__name__)

EXCHANGE_EVERY_BEATS = 15
"""Peers are exchanged right after hello and then about twice a minute."""

EXCHANGED_PEERS = 32
"""Peers told in one exchange."""

GOODBYE_SECONDS = 1.0
"""Longest wait for a peer to hear that this node drains."""


class PeerLink(Protocol):
    """What contacts need of a connection to one peer."""

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
    """What contacts need of a transport."""

    async def identify(self, address: str) -> PeerId:
        """Return who answers at `address`."""
        ...

    def connect(self, peer: PeerId, address: str) -> Link_co:
        """Return a connection on which only `peer` can answer."""
        ...


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
    ) -> None:
        self._own = own
        self._dialer = dialer
        self._membership = membership
        self._describe = describe
        self._beat = beat
        self._links: dict[PeerId, Link] = {}
        self._addresses: dict[PeerId, list[str]] = {}
        self._found_by: dict[PeerId, FoundBy] = {}
        self._wake: dict[PeerId, asyncio.Event] = {}
        self._linked = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, bootstrap: Sequence[str]) -> None:
        """Begin to follow the bootstrap addresses."""
        for address in bootstrap:
            self._spawn(self._follow_address(address), f"bootstrap {address}")

    async def stop(self) -> None:
        """Say goodbye to connected peers and close every connection; idempotent."""
        tasks, self._tasks = self._tasks, set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        links, self._links = list(self._links.values()), {}
        await asyncio.gather(*(self._leave(link) for link in links))

    def reachable(self) -> list[tuple[Member, Link]]:
        """Return the live peers to which a connection is open, by name."""
        return [
            (member, self._links[member.peer])
            for member in self._membership.live()
            if member.peer in self._links
        ]

    async def settle(self, seconds: float) -> None:
        """Return when every live peer is reachable, or after `seconds`.

        A peer that has just introduced itself is live before this node has dialed it back.
        """
        try:
            async with asyncio.timeout(seconds):
                while len(self.reachable()) < len(self._membership.live()):
                    self._linked.clear()
                    await self._linked.wait()
        except TimeoutError:
            return

    def hint(self, peer: PeerId, addresses: Sequence[str], found_by: FoundBy) -> None:
        """Take a hint of where `peer` might be dialed; a known peer is tried again at once."""
        if peer == self._own or not addresses:
            return
        if peer not in self._addresses:
            if len(self._addresses) >= MAX_PEERS:
                return
            self._found_by[peer] = found_by
            self._wake[peer] = asyncio.Event()
            self._addresses[peer] = list(addresses)
            self._spawn(self._follow_peer(peer), f"peer {short(peer)}")
        elif peer not in self._links:
            self._addresses[peer] = list(addresses)
            self._wake[peer].set()

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
        pauses = _Pauses()
        while True:
            try:
                peer = await self._dialer.identify(address)
            except (PeerError, NotTrustedError) as error:
                pauses.log_first("bootstrap_unreachable", address, error)
            else:
                if peer == self._own:
                    log.debug("bootstrap_is_this_node", address=address)
                    return
                self.hint(peer, [address], FoundBy.BOOTSTRAP)
                pauses = _Pauses(first=REDIAL_SECONDS[1])
            await asyncio.sleep(pauses.next())

    async def _follow_peer(self, peer: PeerId) -> None:
        """Keep a connection to `peer`, over whichever of its addresses answers."""
        pauses = _Pauses()
        while True:
            for address in list(self._addresses[peer]):
                try:
                    await self._keep(peer, address, pauses)
                except (PeerError, NotTrustedError) as error:
                    pauses.log_first("peer_unreachable", address, error)
                    self._membership.lose(peer)
            self._wake[peer].clear()
            try:
                async with asyncio.timeout(pauses.next()):
                    await self._wake[peer].wait()
            except TimeoutError:
                continue

    async def _keep(self, peer: PeerId, address: str, pauses: _Pauses) -> None:
        """Say hello at `address`, then exchange beats until one fails."""
        link = self._dialer.connect(peer, address)
        try:
            await self._introduce(link)
            pauses.reset()
            self._links[peer] = link
            self._linked.set()
            beats = 0
            while True:
                if beats % EXCHANGE_EVERY_BEATS == 0:
                    await self._exchange(link)
                await self._exchange_beats(link)
                beats += 1
                await asyncio.sleep(HEARTBEAT_SECONDS * random.uniform(0.75, 1.25))  # noqa: S311
        finally:
            if self._links.get(peer) is link:
                del self._links[peer]
            await self._leave(link)

    async def _introduce(self, link: PeerLink) -> None:
        description = await link.hello(self._describe())
        self._membership.introduce(
            link.peer, description, address=link.address, found_by=self._found_by[link.peer]
        )
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
                async with asyncio.timeout(GOODBYE_SECONDS):
                    await link.heartbeat(self._beat())
        except (PeerError, NotTrustedError, TimeoutError) as error:
            log.debug("goodbye_unheard", peer=short(link.peer), error=str(error))
        finally:
            await link.close()


class _Pauses:
    """Growing pauses with full jitter; remembers whether the failure was already logged."""

    def __init__(self, first: float = REDIAL_SECONDS[0]) -> None:
        self._first = first
        self._ceiling = first
        self._logged = ""

    def next(self) -> float:
        """Return the next pause in seconds."""
        ceiling = self._ceiling
        self._ceiling = min(self._ceiling * 2, REDIAL_SECONDS[1])
        return random.uniform(ceiling / 2, ceiling)  # noqa: S311

    def reset(self) -> None:
        """Start again with the first pause, after a success."""
        self._ceiling = self._first
        self._logged = ""

    def log_first(self, event: str, address: str, error: Exception) -> None:
        """Log a failure once at warning level, its repetitions at debug level."""
        text = str(error)
        (log.debug if text == self._logged else log.warning)(event, address=address, error=text)
        self._logged = text
