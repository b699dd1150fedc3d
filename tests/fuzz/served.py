"""A node that is served whatever a member may send, in memory and over real connections."""

from __future__ import annotations

import asyncio
import atexit
import ssl
from collections.abc import Coroutine
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast

from qkt_node.profile import Profile
from qkt_node.serving import Serving, Terms
from qkt_node.trust_keeper import TrustKeeper
from qkt_node.worker.operations import SYNTHESIZE
from qkt_p2p.discovery import Contacts, Membership, Pace
from qkt_p2p.errors import PEER_FAILURES, PeerUnavailableError
from qkt_p2p.identity.authority import create_authority
from qkt_p2p.identity.standing import Standing
from qkt_p2p.identity.trust import Identity
from qkt_p2p.limits import MAX_PEERS
from qkt_p2p.pb import peer_pb2 as pb
from qkt_p2p.store.journal import Journal
from qkt_p2p.transport.answers import Answers
from qkt_p2p.transport.client import PeerClient
from qkt_p2p.transport.methods import EXCHANGE_PEERS, EXCHANGE_REVOCATIONS, HEARTBEAT, HELLO, PROBE, TEACH
from qkt_p2p.transport.server import PeerServer
from qkt_p2p.transport.tls import TlsLine
from qkt_p2p.types import MEDIA, Chunk, ChunkInfo, PeerId, TeachOffer
from qkt_p2p.wire import messages
from tests.fuzz.target import scratch
from tests.transport.members import ASKER_NODE, REPORT, join
from tests.transport.members import TEACH as REQUEST

METHODS: Final = (HELLO, HEARTBEAT, EXCHANGE_PEERS, EXCHANGE_REVOCATIONS, PROBE, TEACH)
CALLERS: Final = tuple(PeerId(letter * 52) for letter in "abc")
SLOW: Final = Pace(heartbeat=1000.0, redial=(1000.0, 1000.0))
"""Whom nobody can dial is not dialed again while inputs come by the thousand."""

_HELLO: Final = pb.HelloRequest(node=messages.encode_description(ASKER_NODE)).SerializeToString()


class _Nobody:
    """Dials in vain."""

    async def identify(self, address: str) -> PeerId:
        raise PeerUnavailableError(f"{address}: nobody answers")

    def connect(self, peer: PeerId, address: str) -> PeerClient:
        raise PeerUnavailableError(f"{peer} at {address}: nobody answers")


class _Worker:
    """Answers at once with what is always the same."""

    async def call(self, operation: object, argument: object, progress: object = None) -> object:
        return "bank" if operation is SYNTHESIZE else REPORT


class ServedNode:
    """A daemon's handler with all that it leads to, but for learning and dialing, on a loop of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.folder = scratch()
        authority = create_authority("fed", now=datetime.now(UTC))
        self.caller, self.identity = (join(authority, self.folder / name) for name in ("caller", "node"))
        self.journal = Journal(self.folder / "state.sqlite")
        chunk = Chunk(0, b"chunk")
        offer = TeachOffer("moments", 1, REQUEST.classes, (ChunkInfo(bytes(32), len(chunk.data), 5),))
        self.journal.save_bank("bank", offer, [chunk])
        self.handler = self.loop.run_until_complete(self._handler())
        self.answers = Answers(self.handler)
        atexit.register(self.close)

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run what fuzzes; then the node still greets whoever comes, and has not grown beyond its caps."""
        self.loop.run_until_complete(work)
        self.loop.run_until_complete(self._check())

    def close(self) -> None:
        """Let go of everything."""
        self.loop.run_until_complete(self._stop())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.journal.close()
        self.loop.close()

    async def _stop(self) -> None:
        await self.contacts.stop()

    async def _handler(self) -> Serving:
        self.profile = Profile("node", media=MEDIA)
        self.membership = Membership()
        keeper = TrustKeeper(self.identity.files.directory)
        self.contacts: Contacts[PeerClient] = Contacts(
            self.identity.peer_id,
            _Nobody(),
            membership=self.membership,
            describe=self.profile.describe,
            beat=self.profile.beat,
            pace=SLOW,
        )
        return Serving(
            self.profile,
            cast("Any", _Worker()),
            journal=self.journal,
            membership=self.membership,
            contacts=self.contacts,
            keeper=keeper,
            terms=Terms(),
        )

    async def _check(self) -> None:
        answer = await self.answers.unary[HELLO.name](CALLERS[0], _HELLO)
        assert messages.decode_description(pb.HelloResponse.FromString(answer).node).node_name == "node"
        assert len(self.membership.members()) <= MAX_PEERS
        assert len(asyncio.all_tasks()) <= MAX_PEERS + 8
        assert open_files() <= 128


class SecureNode(ServedNode):
    """The same behind a real server on loopback, and a member of its federation that means it no good."""

    def __init__(self) -> None:
        super().__init__()
        self.loop.run_until_complete(self._start())

    async def call(self, number: int, request: bytes) -> None:
        """Send bytes as the request of one method; the node answers or refuses."""
        method = METHODS[number]
        with suppress(*PEER_FAILURES):
            if method is TEACH:
                async with aclosing(self.line.stream(method.path, request)) as parts:
                    async for _ in parts:
                        pass
            else:
                await self.line.ask(method.path, request, seconds=10)

    async def speak(self, data: bytes) -> None:
        """Send bytes where HTTP/2 is spoken, after a handshake as a member."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self.context, server_hostname=""
        )
        try:
            with suppress(ConnectionError, ssl.SSLError):
                writer.write(data)
                await writer.drain()
                # Settings come first, whatever was sent.
                await reader.read(1)
        finally:
            writer.transport.abort()

    async def _start(self) -> None:
        self.server = PeerServer(self.handler, Standing(self.identity))
        self.port = await self.server.start("127.0.0.1:0")
        self.line = TlsLine(self.identity.peer_id, f"127.0.0.1:{self.port}", self.caller)
        self.context = _context(self.caller)

    async def _stop(self) -> None:
        await self.line.close()
        await self.server.stop(0)
        await super()._stop()

    async def _check(self) -> None:
        await super()._check()
        assert (await PeerClient(self.identity.peer_id, self.line).hello(ASKER_NODE)).node_name == "node"


def _context(identity: Identity) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=identity.roots.decode())
    context.load_cert_chain(identity.files.certificate, identity.files.key)
    context.set_alpn_protocols(["h2"])
    return context


def open_files() -> int:
    """Return how many files this process holds open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
