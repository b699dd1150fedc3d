"""A teacher of many chunks that can be made to stop in the midst of its stream, and ways to kill it there."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from qkt_p2p.digests import chunk_digest
from qkt_p2p.identity.standing import Standing
from qkt_p2p.identity.trust import Identity
from qkt_p2p.seams import TeacherLink
from qkt_p2p.transport.client import PeerClient
from qkt_p2p.transport.memory import MemoryNetwork
from qkt_p2p.transport.server import PeerServer
from qkt_p2p.transport.tls import TlsLine
from qkt_p2p.types import (
    Chunk,
    ChunkInfo,
    PeerId,
    ProbeReport,
    ProbeRequest,
    QueryId,
    TeachEnd,
    TeachOffer,
    TeachPart,
    TeachRequest,
)
from tests.student.classroom import DOG, ME, FakeTeacher, Shelf, peer_of

CHUNKS = 20


def contents(model: int = 1, chunks: int = CHUNKS) -> list[bytes]:
    """Return the chunks of a model: the first half is the same for all models."""
    return [f"chunk {at} of {model if at >= chunks // 2 else 0}".encode() for at in range(chunks)]


@dataclass
class Library(FakeTeacher):
    """Sends its chunks, and hangs after each number of chunks in `stops`; `reached` says where it is."""

    stops: set[int] = field(default_factory=set)
    data: list[bytes] = field(default_factory=contents)
    sent: Counter[bytes] = field(default_factory=Counter)
    reached: asyncio.Queue[int] = field(default_factory=asyncio.Queue)

    async def teach(self, caller: PeerId, request: TeachRequest) -> AsyncGenerator[TeachPart]:
        self.requests.append(request)
        infos = tuple(ChunkInfo(chunk_digest(each), len(each), 0) for each in self.data[1:])
        first = ChunkInfo(chunk_digest(self.data[0]), len(self.data[0]), request.samples_per_class)
        offer = TeachOffer(request.medium, 1, request.classes, (first, *infos))
        yield offer
        wanted = [at for at, info in enumerate(offer.chunks) if info.digest not in request.held]
        for at in wanted:
            await self._stop()
            self.sent[self.data[at]] += 1
            yield Chunk(at, self.data[at])
        await self._stop()
        yield TeachEnd(len(wanted))

    async def _stop(self) -> None:
        number = self.sent.total()
        if number in self.stops:
            self.stops.remove(number)
            self.reached.put_nowait(number)
            await asyncio.Event().wait()


@dataclass
class CountingShelf(Shelf):
    """Counts how often each chunk came."""

    came: Counter[bytes] = field(default_factory=Counter)
    _grew: threading.Condition = field(default_factory=threading.Condition)

    def save_chunks(self, query_id: QueryId, source: str, chunks: Sequence[tuple[bytes, Chunk]]) -> None:
        super().save_chunks(query_id, source, chunks)
        with self._grew:
            self.came.update(digest for digest, _ in chunks)
            self._grew.notify_all()

    async def until(self, chunks: int) -> None:
        """Return once so many have come; what is under way when its teacher is killed is lost."""

        def wait() -> None:
            with self._grew:
                assert self._grew.wait_for(lambda: self.came.total() >= chunks, 30)

        await asyncio.to_thread(wait)


class Site(Protocol):
    """Where a library stands: it can be killed there and started again."""

    link: TeacherLink

    async def restart(self) -> None:
        """Kill it in the midst of its calls, and start it again."""
        ...


class MemorySite:
    def __init__(self, library: FakeTeacher) -> None:
        self._library, self._network = library, MemoryNetwork()
        self._peer = peer_of("library")
        self.link: TeacherLink = self._network.connect(ME, self._peer)

    async def start(self) -> None:
        self._network.serve(self._peer, self._library)

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def stop(self) -> None:
        self._network.remove(self._peer)


class TlsSite:
    """A real server on loopback that only members may call."""

    def __init__(self, library: FakeTeacher, asker: Identity, own: Identity) -> None:
        self._library, self._own = library, own
        self._server: PeerServer | None = None
        self.port = 0
        self.settled = asyncio.Event()
        """Not set while it is on its way back: whoever calls then waits, so that no call is in vain."""
        self.settled.set()
        self.link: TeacherLink = DialedAnew(own.peer_id, asker, self)

    async def start(self) -> None:
        self._server = PeerServer(self._library, Standing(self._own))
        self.port = await self._server.start(f"127.0.0.1:{self.port}")

    async def restart(self) -> None:
        self.settled.clear()
        await self.stop()
        await self.start()
        self.settled.set()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(0)


class DialedAnew:
    """A link that makes a connection for each call, as discovery does for a peer that comes back."""

    def __init__(self, peer: PeerId, asker: Identity, site: TlsSite) -> None:
        self.peer = peer
        self.bytes_sent = self.bytes_received = 0
        self._asker, self._site = asker, site

    async def probe(self, request: ProbeRequest) -> ProbeReport:
        async with self._client() as client:
            return await client.probe(request)

    async def teach(self, request: TeachRequest) -> AsyncGenerator[TeachPart]:
        async with self._client() as client, aclosing(client.teach(request)) as parts:
            async for part in parts:
                yield part

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[PeerClient]:
        await self._site.settled.wait()
        client = PeerClient(self.peer, TlsLine(self.peer, f"127.0.0.1:{self._site.port}", self._asker))
        try:
            yield client
        finally:
            await client.close()


def library(*stops: int) -> Library:
    return Library({DOG: 1.0}, stops=set(stops))
