"""What this node answers to its peers: membership calls at once, teaching through the worker."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from qkt_node.worker.operations import PROBE, SYNTHESIZE, TeachOrder
from qkt_p2p.discovery import FoundBy
from qkt_p2p.errors import BudgetSpentError, PeerRefusedError, QktError
from qkt_p2p.limits import MAX_CONCURRENT_TEACHING
from qkt_p2p.privacy.policy import Caller
from qkt_p2p.types import Chunk, TeachEnd, short

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from qkt_node.profile import Profile
    from qkt_node.trust_keeper import TrustKeeper
    from qkt_node.worker.client import Worker
    from qkt_p2p.discovery import Contacts, Membership
    from qkt_p2p.privacy.policy import Policy
    from qkt_p2p.store.journal import Journal
    from qkt_p2p.transport.client import PeerClient
    from qkt_p2p.types import (
        Heartbeat,
        NodeDescription,
        PeerAddress,
        PeerId,
        ProbeReport,
        ProbeRequest,
        QueryId,
        TeachPart,
        TeachRequest,
    )

log = structlog.get_logger(__name__)


class Serving:
    """The PeerHandler of a daemon."""

    def __init__(
        self,
        own: Profile,
        worker: Worker,
        *,
        journal: Journal,
        membership: Membership,
        contacts: Contacts[PeerClient],
        keeper: TrustKeeper,
        policy: Policy,
    ) -> None:
        self._own = own
        self._worker = worker
        self._journal = journal
        self._membership = membership
        self._contacts = contacts
        self._keeper = keeper
        self._policy = policy
        self._teaching = 0

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
        with _private_failures(request.query_id):
            report = await self._worker.call(PROBE, request)
        log.info("probe_answered", peer=short(caller), query=request.query_id)
        return replace(report, media=self._media_for(caller))

    async def teach(self, caller: PeerId, request: TeachRequest) -> AsyncGenerator[TeachPart]:
        """Have the worker make (or find) the bank, then stream what the caller does not hold."""
        self._refuse_when_draining()
        if request.medium not in self._media_for(caller):
            raise PeerRefusedError(f"this node does not teach this caller in the medium {request.medium}")
        if self._teaching >= MAX_CONCURRENT_TEACHING:
            raise PeerRefusedError(f"this node already teaches {self._teaching} peers, ask again later")
        self._teaching += 1
        try:
            with _private_failures(request.query_id):
                key = await self._worker.call(SYNTHESIZE, TeachOrder.of(request))
                offer = self._journal.load_bank(key)
                if offer is None:
                    raise PeerRefusedError("the bank was dropped meanwhile, ask again")
                yield offer
                held = set(request.held)
                wanted = [index for index, info in enumerate(offer.chunks) if info.digest not in held]
                for index in wanted:
                    yield Chunk(index, self._journal.load_bank_chunk(key, index))
                yield TeachEnd(len(wanted))
        finally:
            self._teaching -= 1
        log.info("taught", peer=short(caller), query=request.query_id, classes=len(offer.classes))

    def _media_for(self, caller: PeerId) -> tuple[str, ...]:
        facts = self._keeper.standing.certificate_of(caller)
        return self._policy.media_for(
            Caller(facts.peer_id, facts.name, facts.roles) if facts else Caller(caller)
        )

    def _refuse_when_draining(self) -> None:
        if self._own.draining:
            raise PeerRefusedError("this node is stopping")


@contextmanager
def _private_failures(query_id: QueryId) -> Iterator[None]:
    """Tell a caller why it is refused, but nothing about what is wrong within this node: paths, settings."""
    try:
        yield
    except (PeerRefusedError, BudgetSpentError):
        raise
    except QktError as error:
        log.error("cannot_teach", query=query_id, error=error.message, fix=error.fix)
        raise PeerRefusedError(
            "this node cannot answer now: its owner finds the reason in its log"
        ) from error
