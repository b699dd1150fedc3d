"""A disk of the asker's own that fails in the midst of a stream: every call ends at once, at both ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

import pytest

from qkt_p2p.errors import QktError
from qkt_p2p.identity.authority import create_authority
from qkt_p2p.outcome import QueryOutcome
from qkt_p2p.seams import TeacherLink
from qkt_p2p.student import Student
from qkt_p2p.transport.client import PeerClient
from qkt_p2p.transport.memory import MemoryNetwork
from qkt_p2p.transport.tls import TlsLine
from qkt_p2p.types import Chunk, PeerId, QueryId, TeachPart, TeachRequest
from tests.student.classroom import (
    CAT,
    DOG,
    ME,
    MODEL,
    QUICK,
    SAMPLES,
    FakeLearner,
    FakeTeacher,
    Shelf,
    honest,
    peer_of,
    query,
)
from tests.student.library import TlsSite
from tests.transport.members import join


@dataclass
class EndlessTeacher(FakeTeacher):
    """Sends chunks that are nobody else's, and no end; says when its call has ended."""

    voice: int = 0
    sends: int = 1

    async def teach(self, caller: PeerId, request: TeachRequest) -> AsyncGenerator[TeachPart]:
        self.requests.append(request)
        parts = honest(replace(request, seed=self.voice))
        try:
            for part in parts[: 1 + self.sends]:
                assert not isinstance(part, BaseException)
                yield part
            await asyncio.Event().wait()
        finally:
            self.ended.set()


@dataclass
class FullShelf(Shelf):
    """Has room for so many chunks."""

    room: int = 1
    failed: asyncio.Event = field(default_factory=asyncio.Event)

    def save_chunks(self, query_id: QueryId, source: str, chunks: Sequence[tuple[bytes, Chunk]]) -> None:
        if len(self.held) + len(chunks) > self.room:
            raise QktError("cannot use the journal: No space left on device", fix="free space")
        super().save_chunks(query_id, source, chunks)


TEACHERS = {
    "fills": EndlessTeacher({CAT: 0.9, DOG: 0.9}, sends=2),
    "waits": EndlessTeacher({DOG: 0.8}, sends=0, voice=1),
}


@pytest.fixture(params=["memory", "tls"])
async def links(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[list[tuple[str, TeacherLink]]]:
    """Two teachers that would go on for ever, over either line."""
    for teacher in TEACHERS.values():
        teacher.ended = asyncio.Event()
    if request.param == "memory":
        network = MemoryNetwork()
        for name, teacher in TEACHERS.items():
            network.serve(peer_of(name), teacher)
        yield [(name, network.connect(ME, peer_of(name))) for name in TEACHERS]
        return
    authority = create_authority("hospitals.example")
    asker = join(authority, tmp_path_factory.mktemp("asker"))
    sites = {
        name: TlsSite(teacher, asker, join(authority, tmp_path_factory.mktemp(name)))
        for name, teacher in TEACHERS.items()
    }
    for site in sites.values():
        await site.start()
    # Connections that outlive the query, as those of a daemon do.
    clients = {
        name: PeerClient(site.link.peer, TlsLine(site.link.peer, f"127.0.0.1:{site.port}", asker))
        for name, site in sites.items()
    }
    yield list(clients.items())
    for client in clients.values():
        await client.close()
    for site in sites.values():
        await site.stop()


async def test_all_calls_end_when_the_askers_disk_is_full(links: list[tuple[str, TeacherLink]]) -> None:
    """The query fails with the disk's reason, and neither teacher works on for nobody."""
    outcome = QueryOutcome(query(DOG))
    student = Student(FakeLearner(), FullShelf(), samples_per_class=SAMPLES, probes=64, patience=QUICK)
    with pytest.raises(QktError, match="No space left on device"):
        await student.learn(outcome, MODEL, links=links, progress=lambda _: None)
    async with asyncio.timeout(2.0):
        for teacher in TEACHERS.values():
            await teacher.ended.wait()
    assert not any(each.used for each in outcome.teachers.values())
