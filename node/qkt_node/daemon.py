"""The daemon: builds every part of a node, wires them, and runs until it is told to stop."""

from __future__ import annotations

import asyncio
import shlex
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from qkt_node.addresses import is_loopback, require_free
from qkt_node.announcing import Announcing
from qkt_node.background import Background
from qkt_node.control.server import ControlServer, ControlServicer
from qkt_node.learning import WorkerLearner
from qkt_node.model_versions import ModelVersions
from qkt_node.preparation import prepare_home, prepare_model
from qkt_node.profile import Profile
from qkt_node.queries import Queries
from qkt_node.query_end import Ends
from qkt_node.query_run import Means
from qkt_node.remembered import RememberingMembership, remembered_peers
from qkt_node.renewing import Renewing, warnings_of
from qkt_node.serving import Serving, Terms
from qkt_node.stopping import on_request_to_stop
from qkt_node.trust_keeper import TrustKeeper
from qkt_node.whereabouts import Whereabouts
from qkt_node.worker.client import Worker
from qkt_p2p.discovery import Contacts, FoundBy
from qkt_p2p.store.journal import Journal
from qkt_p2p.student import Student
from qkt_p2p.transport.attach import AttachingDialer
from qkt_p2p.transport.client import PeerClient
from qkt_p2p.transport.dialer import TlsDialer
from qkt_p2p.transport.server import PeerServer

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from qkt_node.home import Home
    from qkt_node.settings import NodeConfig
    from qkt_p2p.seams import ReportProgress
    from qkt_p2p.transport.handler import PeerHandler
    from qkt_p2p.types import PeerId

log = structlog.get_logger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ready:
    """Where a started node answers."""

    name: str
    peer: PeerId
    addresses: tuple[str, ...]
    home: str
    warnings: tuple[str, ...] = ()

    def line(self) -> str:
        """Return the one line that `start` prints; names with spaces are quoted as a shell would."""
        name, home = shlex.quote(self.name), shlex.quote(self.home)
        address = self.addresses[0] if self.addresses else "none"
        return f"ready name={name} peer={self.peer} address={address} home={home}"

    def as_data(self) -> dict[str, Any]:
        """Return the same for machines."""
        return {
            "name": self.name,
            "peer": self.peer,
            "addresses": list(self.addresses),
            "home": self.home,
            "warnings": list(self.warnings),
        }


class Daemon:
    """One node. `run` starts it, tells `ready`, and returns when it has drained.

    `answering` may put something between this node's answers and its peers.
    """

    def __init__(
        self,
        home: Home,
        config: NodeConfig,
        *,
        answering: Callable[[PeerHandler], PeerHandler] = lambda handler: handler,
    ) -> None:
        self._home = home
        self._config = config
        self._keeper = TrustKeeper(home.identity)
        self._standing = self._keeper.standing
        self._shown = self._standing.identity
        self._journal = Journal(home.database)
        self._profile = Profile(config.node.name, media=config.policy.media)
        self._membership = RememberingMembership(self._journal)
        self._worker = Worker(home, config)
        self._contacts = Contacts(
            self._shown.peer_id,
            self._dialer(),
            membership=self._membership,
            describe=self._profile.describe,
            beat=self._profile.beat,
            heard=self._keeper.compare,
        )
        student = Student(
            WorkerLearner(self._worker, self._profile),
            self._journal,
            samples_per_class=config.learning.samples_per_class,
        )
        means = Means(
            student,
            self._worker,
            self._journal,
            self._contacts,
            profile=self._profile,
            models=home.models,
            standing=self._standing,
            ends=Ends(self._journal, home.models),
        )
        self._queries = Queries(means, config)
        self._serving = Serving(
            self._profile,
            self._worker,
            journal=self._journal,
            membership=self._membership,
            contacts=self._contacts,
            keeper=self._keeper,
            terms=Terms(config.peer_policy(), config.serving.peer_bytes_per_second),
        )
        self._server = PeerServer(
            answering(self._serving),
            self._standing,
            policy=config.peer_policy(),
            adopt=lambda peer, line: self._contacts.adopted(PeerClient(peer, line)),
        )
        servicer = ControlServicer(
            self._keeper,
            self._queries,
            models=ModelVersions(means, self._queries),
            profile=self._profile,
            membership=self._membership,
            serving=self._serving,
            worker=self._worker,
        )
        self._control = ControlServer(home.control_socket, servicer)
        self._background = Background()
        self._announcing = Announcing(
            lambda peer, addresses: self._contacts.hint(peer, addresses, FoundBy.MDNS),
            # A node that listens on loopback alone stays there.
            interfaces=("127.0.0.1",) if is_loopback(config.node.listen) else (),
        )
        self._whereabouts = Whereabouts(
            config,
            self._profile,
            identity=lambda: self._shown,
            publisher=self._announcing if config.discovery.mdns else None,
            moved=self._contacts.hasten,
        )

    async def run(self, *, ready: Callable[[Ready], None], progress: ReportProgress) -> Ready | None:
        """Run until the owner has it stop; `ready` is told where the node answers.

        Returns that again, or None where the node was stopped before it was ready.
        """
        stopping = asyncio.Event()
        on_request_to_stop(stopping.set)
        async with AsyncExitStack() as stack:
            stack.callback(self._journal.close)
            stack.push_async_callback(self._worker.stop)
            prepare_home(self._home, self._journal)
            # The first training takes a while: first see whether there is anything to train for.
            if not self._config.node.outbound_only:
                require_free(self._config.node.listen)
            model = await _unless(
                stopping,
                prepare_model(
                    self._home,
                    self._config,
                    journal=self._journal,
                    worker=self._worker,
                    progress=progress,
                ),
            )
            if model is None:
                return None
            self._profile.model = model
            told = await self._serve(stack)
            ready(told)
            # Publishing takes a second: the local network is asked whether the name is taken.
            self._background.start(self._whereabouts.follow(), "follow networks")
            await stopping.wait()
            log.info("draining")
        return told

    async def _serve(self, stack: AsyncExitStack) -> Ready:
        """Answer peers and the owner, and look for peers; `stack` undoes it."""
        if not self._config.node.outbound_only:
            port = await self._server.start(self._config.node.listen)
            stack.push_async_callback(self._server.stop)
            self._whereabouts.start(port)
        await self._control.start()
        stack.push_async_callback(self._control.stop)
        stack.push_async_callback(self._drain)
        await self._queries.resume()
        self._follow_trust()
        self._standing.watch(self._follow_trust)
        stack.push_async_callback(self._announcing.stop)
        stack.push_async_callback(self._background.stop)
        self._background.start(self._keeper.watch(), "watch identity")
        self._background.start(Renewing(self._home, self._keeper).run(), "renew certificate")
        self._contacts.start(self._config.discovery.bootstrap)
        for peer, addresses, found_by in remembered_peers(self._journal):
            self._contacts.hint(peer, addresses, found_by)
        return Ready(
            self._profile.name,
            self._shown.peer_id,
            self._profile.addresses,
            str(self._home.root),
            (*warnings_of(self._standing), *self._profile.warnings),
        )

    def _follow_trust(self) -> None:
        """Have every part act on what this node shows and believes by now."""
        standing, before = self._standing, self._shown
        self._profile.revocations = standing.revocations.digest
        revoked = standing.revoked()
        self._membership.revoke(revoked)
        self._contacts.refuse(revoked)
        if standing.identity is before:
            return
        self._shown = standing.identity
        self._contacts.become(standing.identity.peer_id)

    def _dialer(self) -> TlsDialer:
        if self._config.node.outbound_only:
            return AttachingDialer(self._standing, lambda: self._server)
        return TlsDialer(self._standing)

    async def _drain(self) -> None:
        """Tell peers, leave queries to the next daemon, let go of connections."""
        self._profile.draining = True
        self._serving.drain()
        # Queries first: a connection that ends must not count as a teacher's failure.
        await asyncio.gather(self._queries.stop(), self._contacts.stop())


async def _unless(stopping: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """Return what `work` returns, or None where the node is told to stop first."""
    working = asyncio.create_task(work)
    stopped = asyncio.create_task(stopping.wait())
    await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if stopping.is_set() and not working.done():
        working.cancel()
        await asyncio.wait({working})
        return None
    return working.result()
