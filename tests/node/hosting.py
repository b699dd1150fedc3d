"""What serves peers in a daemon, with a stand-in for its worker, in memory and over mutual TLS."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from qkt_node.profile import Profile
from qkt_node.serving import Serving, Terms
from qkt_node.worker.operations import PROBE, TeachOrder
from qkt_p2p.digests import chunk_digest
from qkt_p2p.identity.standing import Standing
from qkt_p2p.privacy.policy import Policy
from qkt_p2p.transport.attach import AttachingDialer
from qkt_p2p.transport.client import Line, PeerClient
from qkt_p2p.transport.memory import MemoryNetwork
from qkt_p2p.transport.server import PeerServer
from qkt_p2p.transport.tls import TlsLine
from qkt_p2p.types import (
    Chunk,
    ChunkInfo,
    ClassName,
    PeerId,
    ProbeReport,
    ProbeRequest,
    Progress,
    QueryId,
    TeachOffer,
    TeachRequest,
)
from tests.transport.members import TEACHER_NODE, Teacher

if TYPE_CHECKING:
    from qkt_p2p.identity.trust import Identity
    from qkt_p2p.store.journal import Journal

PROBING = ProbeRequest(QueryId("0" * 16), 1, 8, ())
TEACHING = TeachRequest(QueryId("0" * 16), "moments", 1, 10, (ClassName("7"),), (1, 8, 8))
CHUNKS = (Chunk(0, b"first"), Chunk(1, b"second"))

Connect = Callable[["Identity"], PeerClient]


def offer_of(chunks: tuple[Chunk, ...], medium: str = "moments") -> TeachOffer:
    """Return what offers these chunks."""
    infos = tuple(ChunkInfo(chunk_digest(chunk.data), len(chunk.data), 5) for chunk in chunks)
    return TeachOffer(medium, 1, TEACHING.classes, infos)


OFFER = offer_of(CHUNKS)


@dataclass
class StandInWorker:
    """Has a report and the key of a bank, or a failure; works while `go` is not set."""

    failure: Exception | None = None
    report: ProbeReport = field(default_factory=lambda: ProbeReport(1, (1, 8, 8), ()))
    bank: str = "bank"
    begins: bool = True
    asked: list[object] = field(default_factory=list)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    given_up: asyncio.Event = field(default_factory=asyncio.Event)
    heard: asyncio.Condition = field(default_factory=asyncio.Condition)

    def __post_init__(self) -> None:
        self.go.set()

    @property
    def orders(self) -> list[TeachOrder]:
        """The banks that were asked for."""
        return [each for each in self.asked if isinstance(each, TeachOrder)]

    async def calls(self, number: int) -> None:
        """Return when so many were made."""
        async with self.heard:
            await self.heard.wait_for(lambda: len(self.asked) >= number)

    async def call(
        self, operation: object, argument: object, progress: Callable[[Progress], None] | None = None
    ) -> Any:
        """Answer as the operation would; `begins` tells whether it is begun at all."""
        async with self.heard:
            self.asked.append(argument)
            self.heard.notify_all()
        self.begun.set()
        if progress is not None and self.begins:
            progress(Progress("", 0, 0, "started"))
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.given_up.set()
            raise
        if self.failure is not None:
            raise self.failure
        return self.report if operation is PROBE else self.bank


@dataclass(frozen=True)
class Host:
    """One node; `network` holds it in memory, without it is served over mutual TLS."""

    own: Identity
    journal: Journal
    stack: AsyncExitStack
    network: MemoryNetwork | None

    def serving(self, worker: object, terms: Terms) -> tuple[Serving, Standing]:
        """Return a daemon's handler, whom nobody can reach yet."""
        standing, nothing = Standing(self.own), cast("Any", None)
        serving = Serving(
            Profile("own"),
            cast("Any", worker),
            journal=self.journal,
            membership=nothing,
            contacts=nothing,
            keeper=cast("Any", _Keeper(standing)),
            terms=terms,
        )
        return serving, standing

    async def serve(
        self, worker: object, policy: Policy | None = None, *, peer_bytes_per_second: int = 0
    ) -> tuple[Serving, Connect]:
        """Serve, and return how members connect."""
        serving, standing = self.serving(worker, Terms(policy or Policy(), peer_bytes_per_second))
        own, network = self.own.peer_id, self.network
        if network is not None:
            network.serve(own, serving)
            return serving, lambda caller: network.connect(caller.peer_id, own)
        server = PeerServer(serving, standing, policy=policy)
        port = await server.start("127.0.0.1:0")
        self.stack.push_async_callback(server.stop, 0)

        def connect(caller: Identity) -> PeerClient:
            client = PeerClient(own, TlsLine(own, f"127.0.0.1:{port}", caller))
            self.stack.push_async_callback(client.close)
            return client

        return serving, connect

    async def serve_outbound(
        self, worker: object, callers: Sequence[Identity]
    ) -> tuple[Serving, list[PeerClient]]:
        """Serve as a node that nobody can dial: it dials each caller, who asks over that connection."""
        serving, standing = self.serving(worker, Terms(Policy(), 0))
        server = PeerServer(serving, standing)
        dialer = AttachingDialer(standing, lambda: server)
        return serving, [await self._attach(dialer, caller) for caller in callers]

    async def _attach(self, dialer: AttachingDialer, caller: Identity) -> PeerClient:
        adopted: asyncio.Future[PeerClient] = asyncio.get_running_loop().create_future()

        @contextmanager
        def adopt(peer: PeerId, line: Line) -> Iterator[None]:
            adopted.set_result(PeerClient(peer, line))
            yield

        asking = PeerServer(Teacher(), Standing(caller), adopt=adopt)
        port = await asking.start("127.0.0.1:0")
        self.stack.push_async_callback(asking.stop, 0)
        outbound = dialer.connect(caller.peer_id, f"127.0.0.1:{port}")
        self.stack.push_async_callback(outbound.close)
        await outbound.hello(TEACHER_NODE)
        return await adopted


@dataclass(frozen=True)
class _Keeper:
    """The part of a trust keeper that serving needs."""

    standing: Standing


async def taught(client: PeerClient, request: TeachRequest = TEACHING) -> list[object]:
    """Return all parts of a response."""
    return [part async for part in client.teach(request)]
