"""Calls one peer: domain types out and in, over whatever line leads to it."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from qkt_p2p import limits
from qkt_p2p.errors import PEER_FAILURES, PeerUnavailableError
from qkt_p2p.masking.masks import PROBES
from qkt_p2p.pb import peer_pb2 as pb
from qkt_p2p.transport.methods import (
    EXCHANGE_PEERS,
    EXCHANGE_REVOCATIONS,
    HEARTBEAT,
    HELLO,
    PROBE,
    TEACH,
    A,
    Method,
    Q,
    parse_message,
)
from qkt_p2p.types import short
from qkt_p2p.wire import messages
from qkt_p2p.wire.payloads import find_chunk

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Sequence

    from qkt_p2p.types import (
        Heartbeat,
        NodeDescription,
        PeerAddress,
        PeerId,
        ProbeReport,
        ProbeRequest,
        TeachPart,
        TeachRequest,
    )


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds that a caller waits: for an answer, by kind of call, and for the next part of a response."""

    call: float = limits.CALL_SECONDS
    # Later than this the peer would count as silent anyway.
    heartbeat: float = limits.SILENT_AFTER_SECONDS - limits.HEARTBEAT_SECONDS
    probe: float = limits.PROBE_SECONDS
    stall: float = limits.STREAM_STALL_SECONDS


USUAL_DEADLINES: Final = Deadlines()


class Line(Protocol):
    """Carries messages to the one peer at its other end, and raises PEER_FAILURES alone.

    A call that is cancelled, or a stream that is closed, ends the peer's work on it too. Closing the
    line makes running calls fail as unavailable.
    """

    address: str

    async def ask(self, path: str, request: bytes, *, seconds: float) -> bytes:
        """Return the answer, if it comes within `seconds`."""
        ...

    def stream(self, path: str, request: bytes) -> AsyncGenerator[bytes]:
        """Yield the parts of an answer."""
        ...

    async def close(self) -> None:
        """Give the line up; idempotent."""
        ...


class PeerClient:
    """The calls of PeerService to `peer`; nobody else can answer on its line.

    `bytes_sent` and `bytes_received` count the messages of probes and responses. Every method has a
    deadline and raises one of PEER_FAILURES, which names the peer.
    """

    def __init__(self, peer: PeerId, line: Line, deadlines: Deadlines = USUAL_DEADLINES) -> None:
        self.peer = peer
        self.address = line.address
        self.bytes_sent = 0
        self.bytes_received = 0
        self._line = line
        self._deadlines = deadlines
        self._streams = 0

    async def close(self) -> None:
        """Close the line; running calls end as unavailable."""
        await self._line.close()

    async def hello(self, node: NodeDescription) -> NodeDescription:
        """Introduce this node and return the peer's description."""
        request = pb.HelloRequest(node=messages.encode_description(node))
        with self._naming_the_peer():
            answer = await self._ask(HELLO, request, self._deadlines.call)
            return messages.decode_description(answer.node)

    async def heartbeat(self, beat: Heartbeat) -> Heartbeat:
        """Send a beat and return the peer's."""
        request = messages.encode_heartbeat(beat, pb.HeartbeatRequest)
        with self._naming_the_peer():
            answer = await self._ask(HEARTBEAT, request, self._deadlines.heartbeat)
            return messages.decode_heartbeat(answer)

    async def exchange_peers(self, peers: Sequence[PeerAddress]) -> tuple[PeerAddress, ...]:
        """Tell live peers and return the peer's."""
        request = pb.ExchangePeersRequest(peers=messages.encode_peer_addresses(peers))
        with self._naming_the_peer():
            answer = await self._ask(EXCHANGE_PEERS, request, self._deadlines.call)
            return messages.decode_peer_addresses(answer.peers)

    async def exchange_revocations(self, lists: bytes) -> bytes:
        """Tell revocation lists (PEM) and return the peer's, which nobody has verified yet."""
        request = pb.ExchangeRevocationsRequest(lists=lists)
        with self._naming_the_peer():
            answer = await self._ask(EXCHANGE_REVOCATIONS, request, self._deadlines.call)
            return messages.decode_revocations(answer)

    async def probe(self, request: ProbeRequest) -> ProbeReport:
        """Ask for evidence of what the peer's model knows."""
        message = messages.encode_probe_request(request)
        with self._naming_the_peer():
            self.bytes_sent += message.ByteSize()
            # The usual ones take less than a cold start; many of a large model take their time.
            seconds = self._deadlines.probe * max(1, request.probes / PROBES)
            answer = await self._ask(PROBE, message, seconds)
            self.bytes_received += answer.ByteSize()
            return messages.decode_probe_report(answer)

    async def teach(self, request: TeachRequest) -> AsyncGenerator[TeachPart]:
        """Yield the parts of a response; closing the generator ends the peer's work on it."""
        message = messages.encode_teach_request(request).SerializeToString()
        self.bytes_sent += len(message)
        with self._naming_the_peer(), self._streaming():
            async with aclosing(self._line.stream(TEACH.path, message)) as parts:
                while (part := await self._next(parts)) is not None:
                    self.bytes_received += len(part)
                    yield find_chunk(part) or messages.decode_teach_part(parse_message(TEACH.answer, part))

    async def _next(self, parts: AsyncGenerator[bytes]) -> bytes | None:
        seconds = self._deadlines.stall
        try:
            async with asyncio.timeout(seconds):
                return await anext(parts, None)
        except TimeoutError as error:
            raise PeerUnavailableError(f"nothing arrived for {seconds:g} s") from error

    async def _ask(self, method: Method[Q, A], request: Q, seconds: float) -> A:
        if self._streams:
            # The answer comes behind the stream's chunks, which take long on a slow link; whoever gave the
            # connection up for that would never get them. That a link is dead keepalive finds out.
            seconds = max(seconds, self._deadlines.stall)
        answer = await self._line.ask(method.path, request.SerializeToString(), seconds=seconds)
        return parse_message(method.answer, answer)

    @contextmanager
    def _streaming(self) -> Iterator[None]:
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1

    @contextmanager
    def _naming_the_peer(self) -> Iterator[None]:
        try:
            yield
        except PEER_FAILURES as error:
            message = f"peer {short(self.peer)} at {self.address}: {error.message}"
            raise error.told_as(message) from error
