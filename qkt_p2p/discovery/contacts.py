"""Whom a node keeps in contact with: hints are taken in, queries borrow connections, the revoked are let go.

One task follows each bootstrap address (bootstrap.py) and one each peer (following.py).

Heartbeats go to this node's neighbours on a ring alone, so what a node spends does not grow with its
federation; of the others it hears by exchanges, and it dials them when a query wants them.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import TYPE_CHECKING, Generic

import structlog

from qkt_p2p.discovery.book import ContactBook
from qkt_p2p.discovery.bootstrap import follow_address
from qkt_p2p.discovery.conversation import Voice
from qkt_p2p.discovery.following import Follower
from qkt_p2p.discovery.gathering import gather
from qkt_p2p.discovery.lines import Lines
from qkt_p2p.discovery.links import Link
from qkt_p2p.discovery.member import FoundBy
from qkt_p2p.discovery.pace import USUAL_PACE
from qkt_p2p.limits import MAX_PEERS, MAX_PEERS_PER_EXCHANGE
from qkt_p2p.types import PeerAddress, short

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Sequence
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from qkt_p2p.discovery.gathering import Gathered
    from qkt_p2p.discovery.links import Dialer
    from qkt_p2p.discovery.member import Conduct, Member
    from qkt_p2p.discovery.membership import Membership
    from qkt_p2p.discovery.pace import Pace
    from qkt_p2p.types import Heartbeat, NodeDescription, PeerId

log = structlog.get_logger(__name__)


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
        self._dialer = dialer
        self._membership = membership
        self._pace = pace
        self._refused: frozenset[PeerId] = frozenset()
        self._lines: Lines[Link] = Lines(membership)
        self._book = ContactBook(own)
        self._follower = Follower(
            dialer,
            Voice(describe, beat, heard),
            book=self._book,
            lines=self._lines,
            membership=membership,
            pace=pace,
            exchange=self._exchange,
        )
        self._hurry = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = False

    def start(self, bootstrap: Sequence[str]) -> None:
        """Begin to follow the bootstrap addresses."""
        for address in bootstrap:
            follower = follow_address(
                address,
                self._dialer,
                self._pace,
                found=self._found,
                known=self._has_link,
                noted=self._book.note_address,
                hurry=self._hurry,
            )
            self._spawn(follower, f"bootstrap {address}")

    async def stop(self) -> None:
        """Say goodbye to connected peers if this node drains, and close every connection; idempotent."""
        self._stopped = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def reachable(self) -> list[tuple[Member, Link]]:
        """Return the live peers to which a connection is open, by name."""
        return self._lines.reachable()

    def adopted(self, link: Link) -> AbstractContextManager[None]:
        """Have a peer that cannot be dialed asked over a connection that it opened, for the block.

        It is live for as long as it is heard, by the beats that it sends.
        """
        return self._lines.lent(link)

    async def meet(self, seconds: float, peers: Collection[PeerId] = ()) -> None:
        """Return when somebody is live, and all of `peers`.

        Where that is not so, dial bootstrap addresses now, and wait at most `seconds`.
        """
        if not self._membership.are_live(1, peers):
            self._hurry.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._membership.wait_for_live(1, peers)

    def gathered(self, seconds: float) -> AbstractAsyncContextManager[Gathered[Link]]:
        """Connect to every live peer, and keep these connections for the block.

        Waits until each was reached or tried in vain, at most `seconds`. A peer that nobody can dial is
        waited for too: it is live once it said hello, and lends its connection a moment later.
        """
        live = self._membership.live()
        for member in live:
            if member.peer not in self._lines:
                # One that did not answer may have been forgotten since, though others hear it.
                self.hint(member.peer, member.dialable, FoundBy.EXCHANGE)
        alone = self._membership.left_alone()
        return gather(
            live,
            alone,
            book=self._book,
            lines=self._lines,
            seconds=seconds,
            refused=lambda peer: peer in self._refused,
        )

    def refuse(self, peers: frozenset[PeerId]) -> None:
        """Be connected to none of `peers` any longer, nor dial them; calls that run to them fail."""
        self._refused = peers
        for contact in [each for each in self._book if each.peer in peers]:
            contact.tried = True
            if contact.task is not None:
                contact.task.cancel()

    def become(self, own: PeerId) -> None:
        """Make connections anew, because this node shows something else: it may be another peer now.

        Those that a query borrows last until it ends. Where the key changed, peers hear a goodbye of
        whom they knew.
        """
        self._book.become(own)
        for contact in self._book:
            contact.outdated = contact.peer in self._lines.dialed

    def hasten(self) -> None:
        """Dial now whoever does not answer: this node's network is another one."""
        self._hurry.set()
        for contact in self._book:
            contact.wake.set()

    def hear(self, peer: PeerId) -> None:
        """Note that something came from `peer`: its next beat may be behind much of the same."""
        self._membership.hear(peer)

    def judge(self, peer: PeerId, conduct: Conduct) -> None:
        """Note how a peer did as a teacher; some are not asked for a while."""
        if seconds := self._membership.judge(peer, conduct):
            log.warning("peer_left_alone", peer=short(peer), seconds=seconds, because=conduct)

    def tell(self, peer: PeerId) -> list[PeerAddress]:
        """Return some live peers for an exchange with `peer`, a fresh choice each time."""
        live = self._membership.told_to(peer)
        return random.sample(live, min(len(live), MAX_PEERS_PER_EXCHANGE))

    def take(self, told: Iterable[PeerAddress]) -> None:
        """Take in what a peer told in an exchange."""
        for each in told:
            if each.peer != self._book.own and each.addresses:
                self._membership.hearsay(each)
                self.hint(each.peer, each.addresses, FoundBy.EXCHANGE)

    def hint(self, peer: PeerId, addresses: Sequence[str], found_by: FoundBy) -> None:
        """Take a hint of where `peer` might be dialed; a known peer is tried again at once.

        Not so on hearsay from other peers, who could otherwise make this node dial as fast as they talk.
        """
        if peer == self._book.own or peer in self._refused or not addresses or self._stopped:
            return
        known = self._book.find(peer)
        if known is None:
            if len(self._book) < MAX_PEERS:
                self._follow(peer, addresses, found_by)
            return
        known.learn(addresses, preferred=found_by is not FoundBy.EXCHANGE)
        if found_by is not FoundBy.EXCHANGE:
            known.wake.set()

    def _found(self, peer: PeerId, address: str) -> bool:
        """Follow whoever answers at a bootstrap address; return False where this is this node itself."""
        self.hint(peer, [address], FoundBy.BOOTSTRAP)
        return peer != self._book.own

    def _has_link(self, address: str) -> bool:
        return any(link.address == address for link in self._lines.dialed.values())

    def _follow(self, peer: PeerId, addresses: Sequence[str], found_by: FoundBy) -> None:
        contact = self._book.add(peer, found_by)
        contact.learn(addresses, preferred=True)
        contact.task = self._spawn(self._follower.follow(contact), f"peer {short(peer)}")

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("contact_task_failed", task=task.get_name(), error=repr(error), exc_info=error)

    async def _exchange(self, link: Link) -> None:
        self.take(await link.exchange_peers(self.tell(link.peer)))
