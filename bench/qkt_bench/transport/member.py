"""This project's own way: a teacher that streams chunks, an asker that checks and keeps them.

With journals it is what two daemons do; without, the teacher's chunks are in memory and the asker forgets
what it has checked. The teacher is dialed, or dials and is attached as a node behind a wall is.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Protocol

from qkt_bench.transport.ends import End, Way
from qkt_bench.transport.load import ASKER, BANK, REQUEST, TEACHER
from qkt_p2p.asking.collection import Collection
from qkt_p2p.errors import PeerRefusedError
from qkt_p2p.limits import CHUNKS_UNDER_WAY
from qkt_p2p.outcome import TeacherOutcome
from qkt_p2p.transport.attach import AttachingDialer
from qkt_p2p.transport.client import PeerClient
from qkt_p2p.transport.dialer import TlsDialer
from qkt_p2p.transport.server import PeerServer
from qkt_p2p.types import Chunk, Heartbeat, NodeDescription, TeachEnd

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence

    from qkt_bench.transport.ends import Arrived
    from qkt_bench.transport.load import Load
    from qkt_p2p.seams import ResponseStore
    from qkt_p2p.store.journal import Journal
    from qkt_p2p.transport.client import Line
    from qkt_p2p.types import (
        PeerAddress,
        PeerId,
        ProbeReport,
        ProbeRequest,
        QueryId,
        TeachOffer,
        TeachPart,
        TeachRequest,
    )

BEAT = Heartbeat(draining=False, model_version=1)
NODE = NodeDescription(1, "bench", "0", (), (), (), 1)


def way(about: str, *, journals: bool, attached: bool = False) -> Way:
    """Return one of the four ways of this kind."""

    @asynccontextmanager
    async def teacher(load: Load, port: int) -> AsyncGenerator[End]:
        with _bank(load, journals=journals) as bank:
            opened = _dialing_teacher(load, port, bank) if attached else _listening_teacher(load, bank)
            async with opened as end:
                yield end

    @asynccontextmanager
    async def asker(load: Load, port: int) -> AsyncGenerator[End]:
        with _store(load, journals=journals) as store:
            opened = _listening_asker(load, store) if attached else _dialing_asker(load, port, store)
            async with opened as end:
                yield end

    return Way(teacher, asker, about, asker_listens=attached, as_daemons=True)


class _Bank(Protocol):
    """Where a teacher's chunks are."""

    def offer(self) -> TeachOffer: ...

    def chunks(self, places: Sequence[int]) -> list[bytes]: ...


class _BankInMemory:
    def __init__(self, load: Load) -> None:
        self._offer = load.offer()
        self._chunks = list(load.data())

    def offer(self) -> TeachOffer:
        return self._offer

    def chunks(self, places: Sequence[int]) -> list[bytes]:
        return [self._chunks[at] for at in places]


class _BankInJournal:
    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def offer(self) -> TeachOffer:
        offer = self._journal.load_bank(BANK)
        if offer is None:
            raise PeerRefusedError("the bench made no bank")
        return offer

    def chunks(self, places: Sequence[int]) -> list[bytes]:
        chunks = self._journal.load_bank_chunks(BANK, places)
        if chunks is None:
            raise PeerRefusedError("the bench lost its bank")
        return chunks


class _Forgetting:
    """A ResponseStore that keeps nothing."""

    def load_offer(self, query_id: QueryId, source: str) -> TeachOffer | None:
        return None

    def save_offer(self, query_id: QueryId, source: str, offer: TeachOffer) -> None:
        pass

    def save_chunks(self, query_id: QueryId, source: str, chunks: Sequence[tuple[bytes, Chunk]]) -> None:
        pass

    def held_digests(self, query_id: QueryId) -> set[bytes]:
        del query_id
        return set()

    def held_by_source(self, query_id: QueryId) -> Mapping[str, tuple[int, int]]:
        del query_id
        return {}


class _Slow:
    """A ResponseStore that takes its time, as a slow disk does."""

    def __init__(self, store: ResponseStore, pause: float) -> None:
        self._store = store
        self._pause = pause

    def load_offer(self, query_id: QueryId, source: str) -> TeachOffer | None:
        return self._store.load_offer(query_id, source)

    def save_offer(self, query_id: QueryId, source: str, offer: TeachOffer) -> None:
        self._store.save_offer(query_id, source, offer)

    def save_chunks(self, query_id: QueryId, source: str, chunks: Sequence[tuple[bytes, Chunk]]) -> None:
        time.sleep(self._pause * len(chunks))
        self._store.save_chunks(query_id, source, chunks)

    def held_digests(self, query_id: QueryId) -> set[bytes]:
        return self._store.held_digests(query_id)

    def held_by_source(self, query_id: QueryId) -> Mapping[str, tuple[int, int]]:
        return self._store.held_by_source(query_id)


class _Member:
    """A PeerHandler that teaches what its bank holds; one without a bank only answers beats."""

    def __init__(self, bank: _Bank | None = None) -> None:
        self._bank = bank

    async def hello(self, caller: PeerId, node: NodeDescription) -> NodeDescription:
        del caller, node
        return NODE

    async def heartbeat(self, caller: PeerId, beat: Heartbeat) -> Heartbeat:
        del caller
        return beat

    async def exchange_peers(self, caller: PeerId, peers: tuple[PeerAddress, ...]) -> tuple[PeerAddress, ...]:
        del caller
        return peers

    async def exchange_revocations(self, caller: PeerId, lists: bytes) -> bytes:
        del caller
        return lists

    async def probe(self, caller: PeerId, request: ProbeRequest) -> ProbeReport:
        raise PeerRefusedError("the bench probes nobody")

    async def teach(self, caller: PeerId, request: TeachRequest) -> AsyncGenerator[TeachPart]:
        del caller
        if self._bank is None:
            raise PeerRefusedError("the asker teaches nobody")
        offer = self._bank.offer()
        yield offer
        held = set(request.held)
        wanted = [index for index, info in enumerate(offer.chunks) if info.digest not in held]
        for first in range(0, len(wanted), CHUNKS_UNDER_WAY):
            places = wanted[first : first + CHUNKS_UNDER_WAY]
            for chunk in await asyncio.to_thread(self._read, self._bank, places):
                yield chunk
        yield TeachEnd(len(wanted))

    @staticmethod
    def _read(bank: _Bank, places: Sequence[int]) -> list[Chunk]:
        return [Chunk(at, data) for at, data in zip(places, bank.chunks(places), strict=True)]


class _Asking:
    def __init__(self, client: PeerClient, store: ResponseStore) -> None:
        self._client = client
        self._store = store

    async def round_trip(self) -> None:
        """Exchange a beat."""
        await self._client.heartbeat(BEAT)

    async def fetch(self, arrived: Arrived) -> None:
        """Collect the response as a query does."""
        collection = Collection(self._store, lambda _progress: arrived())
        await collection.receive(self._client, REQUEST, TeacherOutcome(self._client.peer, "teacher"))


@asynccontextmanager
async def _listening_teacher(load: Load, bank: _Bank) -> AsyncGenerator[End]:
    server = PeerServer(_Member(bank), load.standing(TEACHER))
    port = await server.start(f"{load.host}:0")
    try:
        yield End(port)
    finally:
        await server.stop(0)


@asynccontextmanager
async def _dialing_asker(load: Load, port: int, store: ResponseStore) -> AsyncGenerator[End]:
    teacher = load.standing(TEACHER).identity.peer_id
    client = TlsDialer(load.standing(ASKER)).connect(teacher, f"{load.host}:{port}")
    try:
        yield End(asking=_Asking(client, store))
    finally:
        await client.close()


@asynccontextmanager
async def _dialing_teacher(load: Load, port: int, bank: _Bank) -> AsyncGenerator[End]:
    standing = load.standing(TEACHER)
    server = PeerServer(_Member(bank), standing)
    asker = load.standing(ASKER).identity.peer_id
    client = AttachingDialer(standing, lambda: server).connect(asker, f"{load.host}:{port}")
    await client.hello(NODE)
    try:
        yield End()
    finally:
        await client.close()


@asynccontextmanager
async def _listening_asker(load: Load, store: ResponseStore) -> AsyncGenerator[End]:
    adopted: asyncio.Future[PeerClient] = asyncio.get_running_loop().create_future()

    @contextmanager
    def adopt(peer: PeerId, line: Line) -> Iterator[None]:
        adopted.set_result(PeerClient(peer, line))
        yield

    server = PeerServer(_Member(), load.standing(ASKER), adopt=adopt)
    port = await server.start(f"{load.host}:0")
    try:
        yield End(port, _AdoptedAsking(adopted, store))
    finally:
        await server.stop(0)


class _AdoptedAsking:
    """The same, once the teacher is attached."""

    def __init__(self, adopted: asyncio.Future[PeerClient], store: ResponseStore) -> None:
        self._adopted = adopted
        self._store = store

    async def round_trip(self) -> None:
        await _Asking(await self._adopted, self._store).round_trip()

    async def fetch(self, arrived: Arrived) -> None:
        await _Asking(await self._adopted, self._store).fetch(arrived)


@contextmanager
def _bank(load: Load, *, journals: bool) -> Iterator[_Bank]:
    if not journals:
        yield _BankInMemory(load)
        return
    journal = load.journal(TEACHER)
    try:
        yield _BankInJournal(journal)
    finally:
        journal.close()


@contextmanager
def _store(load: Load, *, journals: bool) -> Iterator[ResponseStore]:
    if not journals:
        yield _Forgetting()
        return
    journal = load.journal(ASKER)
    try:
        yield _Slow(journal, load.pause) if load.pause else journal
    finally:
        # The next transfer begins with nothing held.
        journal.drop_responses(REQUEST.query_id)
        journal.close()
