"""What this node answers to its peers: membership calls at once, teaching through the worker."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import structlog

from qkt_node.bank_reading import BankReader, in_turns
from qkt_node.deadly import DeadlyOrders
from qkt_node.making import Making
from qkt_node.turns import Caps, Turns
from qkt_node.worker.operations import PROBE, TeachOrder
from qkt_p2p.discovery import FoundBy
from qkt_p2p.errors import (
    BudgetSpentError,
    PeerBusyError,
    PeerRefusedError,
    ProtocolError,
    QktError,
    WorkerDiedError,
)
from qkt_p2p.limits import (
    BUSY_CALLS_SECONDS,
    MAX_CONCURRENT_PROBES,
    MAX_CONCURRENT_PROBES_OF_PEER,
    MAX_CONCURRENT_TEACHING,
    MAX_CONCURRENT_TEACHING_OF_PEER,
    MAX_WAITING_TEACHING,
    MAX_WAITING_TEACHING_OF_PEER,
    STOPPING_SECONDS,
    TEACH_WAIT_SECONDS,
)
from qkt_p2p.privacy.policy import Caller, Policy
from qkt_p2p.transport.pace import Throttle
from qkt_p2p.types import QueryId, TeachEnd, TeachWait, short

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Sequence

    from qkt_node.profile import Profile
    from qkt_node.trust_keeper import TrustKeeper
    from qkt_node.worker.client import Worker
    from qkt_p2p.discovery import Contacts, Membership
    from qkt_p2p.store.journal import Journal
    from qkt_p2p.transport.client import PeerClient
    from qkt_p2p.types import (
        Chunk,
        Heartbeat,
        NodeDescription,
        PeerAddress,
        PeerId,
        ProbeReport,
        ProbeRequest,
        TeachPart,
        TeachRequest,
    )

log = structlog.get_logger(__name__)

_TEACHING: Final = Caps(
    running=MAX_CONCURRENT_TEACHING,
    running_of_peer=MAX_CONCURRENT_TEACHING_OF_PEER,
    waiting=MAX_WAITING_TEACHING,
    waiting_of_peer=MAX_WAITING_TEACHING_OF_PEER,
)
_PROBING: Final = Caps(running=MAX_CONCURRENT_PROBES, running_of_peer=MAX_CONCURRENT_PROBES_OF_PEER)

_MAX_REASON_CHARACTERS: Final = 300
"""Of what is wrong with a request: it may hold names of the asker's own making."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What peers get from a node: who what, and how many bytes a second each, 0 for no such limit."""

    policy: Policy = field(default_factory=Policy)
    peer_bytes_per_second: int = 0


class Serving:
    """The PeerHandler of a daemon.

    Peers wait in `teaching` for their turns to be taught; probes need not wait but for the worker.
    """

    def __init__(
        self,
        own: Profile,
        worker: Worker,
        *,
        journal: Journal,
        membership: Membership,
        contacts: Contacts[PeerClient],
        keeper: TrustKeeper,
        terms: Terms,
    ) -> None:
        self._own = own
        self._worker = worker
        self._journal = journal
        self._banks = BankReader(journal)
        self._membership = membership
        self._contacts = contacts
        self._keeper = keeper
        self._policy = terms.policy
        self._throttle = Throttle(terms.peer_bytes_per_second)
        self._deadly = DeadlyOrders()
        self._making = Making(worker, self._deadly)
        self.teaching = Turns(_TEACHING)
        self._probing = Turns(_PROBING)

    def drain(self) -> None:
        """Send away those who wait for their turn; the others may finish."""
        self.teaching.refuse_waiting(_stopping())

    async def hello(self, caller: PeerId, node: NodeDescription) -> NodeDescription:
        """Take the caller in, dial it back where it says, and describe this node."""
        self._membership.introduce(caller, node, address="", found_by=FoundBy.INBOUND)
        self._contacts.hint(caller, node.addresses, FoundBy.INBOUND)
        return self._own.describe()

    async def heartbeat(self, caller: PeerId, beat: Heartbeat) -> Heartbeat:
        """Note that the caller is alive; one that is not known is told to say hello."""
        if self._membership.known_version(caller) is None:
            raise PeerRefusedError("this node does not know the caller, which must say hello first")
        self._membership.hear(caller, draining=beat.draining)
        return self._own.beat()

    async def exchange_peers(self, caller: PeerId, peers: tuple[PeerAddress, ...]) -> tuple[PeerAddress, ...]:
        """Take the caller's peers as hints and return this node's live ones."""
        self._contacts.take(peers)
        return tuple(self._contacts.tell(caller))

    async def exchange_revocations(self, caller: PeerId, lists: bytes) -> bytes:
        """Take over what is newer in the caller's lists, and return this node's."""
        await self._keeper.hear(lists, teller=caller)
        return self._keeper.lists

    async def probe(self, caller: PeerId, request: ProbeRequest) -> ProbeReport:
        """Show what this node's model knows, on the caller's seed."""
        self._refuse_when_draining()
        order = replace(request, query_id=QueryId(""))
        with (
            self._probing.take(caller),
            _private_failures(caller, request.query_id, self._own),
            self._deadly.watched(order) as progress,
        ):
            report = await self._worker.call(PROBE, request, progress)
        log.info("probe_answered", peer=short(caller), query=request.query_id)
        return replace(report, media=self._media_for(caller))

    async def teach(self, caller: PeerId, request: TeachRequest) -> AsyncGenerator[TeachPart]:
        """Wait for the caller's turn and for the bank, then stream what the caller does not hold.

        Meanwhile every few seconds a sign of life says how many are ahead.
        """
        self._refuse_when_draining()
        if request.medium not in self._media_for(caller):
            raise PeerRefusedError(f"this node does not teach this caller in the medium {request.medium}")
        with self.teaching.take(caller) as turn, _private_failures(caller, request.query_id, self._own):
            async with aclosing(turn.positions(TEACH_WAIT_SECONDS)) as positions:
                async for ahead in positions:
                    yield TeachWait(ahead)
            async with self._making.bank(TeachOrder.of(request)) as making:
                while not (await asyncio.wait({making}, timeout=TEACH_WAIT_SECONDS))[0]:
                    yield TeachWait(ahead=0)
                key = making.result()
            offer = self._banks.offer(key)
            yield offer
            if request.offer_only:
                yield TeachEnd(0)
                return
            held = set(request.held)
            wanted = [at for at, info in enumerate(offer.chunks) if info.digest not in held]
            if wanted:
                await asyncio.to_thread(self._journal.note_disclosure, caller, offer)
            async with aclosing(self._chunks(caller, key, wanted)) as chunks:
                async for chunk in chunks:
                    yield chunk
            yield TeachEnd(len(wanted))
        log.info("taught", peer=short(caller), query=request.query_id, classes=len(offer.classes))

    async def _chunks(self, caller: PeerId, key: str, wanted: Sequence[int]) -> AsyncGenerator[Chunk]:
        whole = False
        try:
            for places in in_turns(wanted):
                # A disk may take its time, and others wait for this thread.
                last = places[-1] == wanted[-1]
                for chunk in await asyncio.to_thread(self._banks.read, key, places, last=last):
                    await self._throttle.admit(caller, len(chunk.data))
                    yield chunk
            whole = True
        finally:
            if not whole:
                self._banks.doubt(key)

    def _media_for(self, caller: PeerId) -> tuple[str, ...]:
        facts = self._keeper.standing.certificate_of(caller)
        return self._policy.media_for(
            Caller(facts.peer_id, facts.name, facts.roles) if facts else Caller(caller)
        )

    def _refuse_when_draining(self) -> None:
        if self._own.draining:
            raise _stopping()


def _stopping() -> PeerBusyError:
    # Most that stop start again; one that does not is not reached when it is asked again.
    return PeerBusyError("this node is stopping", retry_after=STOPPING_SECONDS)


@contextmanager
def _private_failures(caller: PeerId, query_id: QueryId, own: Profile) -> Iterator[None]:
    """Tell a caller why it is refused, but nothing about what is wrong within this node: paths, settings."""
    try:
        yield
    except (PeerRefusedError, BudgetSpentError):
        raise
    except ProtocolError as error:
        # What it sent is not usable, and it alone can mend that.
        reason = error.message[:_MAX_REASON_CHARACTERS]
        log.warning("request_not_usable", peer=short(caller), query=query_id, reason=reason)
        raise error.told_as(reason) from error
    except WorkerDiedError as error:
        log.error("cannot_teach", query=query_id, error=error.message, fix=error.fix)
        # A new one starts with the next call.
        raise PeerBusyError("this node's work was cut short", retry_after=BUSY_CALLS_SECONDS) from error
    except QktError as error:
        if own.draining:
            # What a node that stops cuts short is no failure of its own.
            raise _stopping() from error
        log.error("cannot_teach", query=query_id, error=error.message, fix=error.fix)
        raise PeerRefusedError(
            "this node cannot answer now: its owner finds the reason in its log"
        ) from error
