"""Two members of a federation and the ways between them, in memory and over mutual TLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from qkt_p2p.identity.authority import Authority, sign_request
from qkt_p2p.identity.trust import Identity, IdentityFiles, create_identity, install_bundle, load_identity
from qkt_p2p.transport.attach import AttachedLine
from qkt_p2p.transport.client import USUAL_DEADLINES, Deadlines, Line, PeerClient
from qkt_p2p.transport.memory import MemoryLine, MemoryNetwork
from qkt_p2p.transport.server import PeerServer
from qkt_p2p.transport.tls import TlsLine
from qkt_p2p.types import (
    Chunk,
    ChunkInfo,
    ClassEvidence,
    ClassName,
    Heartbeat,
    NodeDescription,
    PeerAddress,
    PeerId,
    ProbeReport,
    ProbeRequest,
    QueryId,
    TeachEnd,
    TeachOffer,
    TeachPart,
    TeachRequest,
)

ASKER_NODE = NodeDescription(1, "asker", "0.1", (), (), ("127.0.0.1:1",), 1)
TEACHER_NODE = NodeDescription(1, "teacher", "0.1", (ClassName("cat"),), ("moments",), ("127.0.0.1:2",), 2)
ELSEWHERE = (PeerAddress(PeerId("b" * 52), ("192.0.2.1:7448",)),)
PROBE = ProbeRequest(QueryId("0" * 16), seed=1, probes=8, classes=(ClassName("cat"),))
REPORT = ProbeReport(2, (1, 8, 8), (ClassEvidence(ClassName("cat"), 0.5, True),))
TEACH = TeachRequest(QueryId("0" * 16), "moments", 1, 10, (ClassName("cat"),), (1, 8, 8))
OFFER = TeachOffer("moments", 2, (ClassName("cat"),), (ChunkInfo(bytes(32), 4, 10),))
RESPONSE: tuple[TeachPart, ...] = (OFFER, Chunk(0, b"data"), TeachEnd(1))


@dataclass
class Teacher:
    """A handler that answers as it is told, and tells who called and when its work ended.

    While it is `busy` it answers nothing before `release`.
    """

    failure: BaseException | None = None
    response: Sequence[TeachPart] = RESPONSE
    heard: list[object] = field(default_factory=list)
    callers: list[PeerId] = field(default_factory=list)
    busy: bool = False
    release: asyncio.Event = field(default_factory=asyncio.Event)
    began: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def hello(self, caller: PeerId, node: NodeDescription) -> NodeDescription:
        await self._work(caller, node)
        return TEACHER_NODE

    async def heartbeat(self, caller: PeerId, beat: Heartbeat) -> Heartbeat:
        await self._work(caller, beat)
        return Heartbeat(draining=False, model_version=2)

    async def exchange_peers(self, caller: PeerId, peers: tuple[PeerAddress, ...]) -> tuple[PeerAddress, ...]:
        await self._work(caller, peers)
        return ELSEWHERE

    async def exchange_revocations(self, caller: PeerId, lists: bytes) -> bytes:
        await self._work(caller, lists)
        return b"lists of the teacher"

    async def probe(self, caller: PeerId, request: ProbeRequest) -> ProbeReport:
        await self._work(caller, request)
        return REPORT

    async def teach(self, caller: PeerId, request: TeachRequest) -> AsyncGenerator[TeachPart]:
        try:
            for part in self.response:
                yield part
            await self._work(caller, request)
        finally:
            self.ended.set()

    async def _work(self, caller: PeerId, argument: object) -> None:
        self.callers.append(caller)
        self.heard.append(argument)
        self.began.set()
        try:
            if self.busy:
                await self.release.wait()
            if self.failure is not None:
                raise self.failure
        finally:
            self.ended.set()


class Way(Protocol):
    """How `asker` reaches `teacher`."""

    asker: PeerId
    teacher: PeerId

    def line(self) -> Line: ...

    async def vanish(self) -> None:
        """Take the teacher away in the midst of its calls."""
        ...


class MemoryWay:
    def __init__(self, handler: Teacher) -> None:
        self.asker, self.teacher = PeerId("a" * 52), PeerId("t" * 52)
        self._network = MemoryNetwork()
        self._network.serve(self.teacher, handler)

    def line(self) -> Line:
        return MemoryLine(self._network, self.asker, self.teacher)

    async def vanish(self) -> None:
        self._network.remove(self.teacher)


class TlsWay:
    def __init__(self, server: PeerServer, asker: Identity, teacher: Identity, *, port: int) -> None:
        self.asker, self.teacher = asker.peer_id, teacher.peer_id
        self._server, self._identity = server, asker
        self._address = f"127.0.0.1:{port}"

    def line(self) -> Line:
        return TlsLine(self.teacher, self._address, self._identity)

    async def vanish(self) -> None:
        await self._server.stop(0)


class ReverseWay:
    """The asker was dialed by the teacher, which is attached to it and cannot be dialed."""

    def __init__(self, line: Line, attached: AttachedLine, asker: Identity, *, teacher: Identity) -> None:
        self.asker, self.teacher = asker.peer_id, teacher.peer_id
        self._line, self._attached = line, attached

    def line(self) -> Line:
        return self._line

    async def vanish(self) -> None:
        await self._attached.close()


@dataclass
class Clients:
    """Makes clients on a way and closes them all."""

    way: Way
    made: list[PeerClient] = field(default_factory=list)

    def __call__(self, deadlines: Deadlines = USUAL_DEADLINES) -> PeerClient:
        self.made.append(PeerClient(self.way.teacher, self.way.line(), deadlines))
        return self.made[-1]


def join(authority: Authority, home: Path) -> Identity:
    """Return a new member of the federation."""
    files = IdentityFiles(home)
    create_identity(home)
    install_bundle(home, sign_request(authority, files.request.read_bytes()).bundle)
    return load_identity(home)
