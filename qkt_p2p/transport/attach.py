"""Lets a peer ask this node over the connection that this node opened to it; see reverse.py for its side."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Protocol

import grpc
import structlog

from qkt_p2p.discovery.pace import USUAL_PACE, Pauses
from qkt_p2p.errors import PEER_FAILURES, PeerBusyError, PeerRefusedError, PeerUnavailableError, QktError
from qkt_p2p.limits import (
    BUSY_CALLS_SECONDS,
    DRAIN_SECONDS,
    MAX_ATTACHED_BYTES,
    MAX_ATTACHED_CALLS,
    STREAM_STALL_SECONDS,
)
from qkt_p2p.transport.client import Line, PeerClient
from qkt_p2p.transport.dialer import MemberLine, TlsDialer
from qkt_p2p.transport.leeway import Leeway
from qkt_p2p.transport.methods import ANSWER, ATTACH, parse_message, path_of, within
from qkt_p2p.transport.status import milliseconds_of, status_of
from qkt_p2p.types import short
from qkt_p2p.wire.calls import CallEnd, decode_call, encode_answer_part
from qkt_p2p.wire.payloads import encode_response

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from qkt_p2p.discovery.pace import Pace
    from qkt_p2p.identity.standing import Standing
    from qkt_p2p.transport.answers import Answers
    from qkt_p2p.transport.server import PeerServer
    from qkt_p2p.types import PeerId
    from qkt_p2p.wire.calls import AnswerPart, Call

    Authorize = Callable[[PeerId, str], None]
    Upload = grpc.aio.StreamUnaryCall[bytes, bytes]

log = structlog.get_logger(__name__)


class AttachingDialer(TlsDialer):
    """Dials as a node that nobody can dial: its server answers peers over the connections to them.

    `server` returns that server, which need not listen and may be made later than this.
    """

    def __init__(self, standing: Standing, server: Callable[[], PeerServer]) -> None:
        super().__init__(standing)
        self._server = server

    def connect(self, peer: PeerId, address: str) -> PeerClient:
        """Return a client on whose line only `peer` can answer, and over which it can ask."""
        line, server = MemberLine(peer, address, self._standing), self._server()
        authorize = server.authorization.require_peer
        return PeerClient(peer, AttachedLine(peer, line, server.answers, authorize=authorize))


class DialedLine(Line, Protocol):
    """A line over a channel of gRPC."""

    @property
    def channel(self) -> grpc.aio.Channel:
        """The channel."""
        ...


class AttachedLine:
    """A line to a peer that also answers what the peer asks.

    The first answer of the peer begins it. An attachment that breaks is tried again after growing pauses,
    which an answer of the peer ends: whoever restarted asks again as soon as it is heard again.
    `authorize` raises NotTrustedError where the peer may not call a path.
    """

    def __init__(
        self,
        peer: PeerId,
        line: DialedLine,
        answers: Answers,
        *,
        authorize: Authorize,
        pace: Pace = USUAL_PACE,
        grace: float = DRAIN_SECONDS,
    ) -> None:
        self.address = line.address
        self._peer = peer
        self._line = line
        self._answers = answers
        self._authorize = authorize
        self._pauses = Pauses(pace)
        self._grace = grace
        self._answered = asyncio.Event()
        self._attaching: asyncio.Task[None] | None = None
        self._answering: set[asyncio.Task[None]] = set()
        self._closed = False

    async def ask(self, path: str, request: bytes, *, seconds: float) -> bytes:
        """Return the answer, if it comes within `seconds`, or later where the peer is being answered."""
        if self._answering:
            # The request waits behind what this node sends, as in PeerClient behind what it is sent.
            seconds = max(seconds, STREAM_STALL_SECONDS)
        answer = await self._line.ask(path, request, seconds=seconds)
        self._answered.set()
        if self._attaching is None and not self._closed:
            self._attaching = asyncio.create_task(self._stay_attached(), name=f"attach {short(self._peer)}")
        return answer

    def stream(self, path: str, request: bytes) -> AsyncGenerator[bytes]:
        """Yield the parts of an answer."""
        return self._line.stream(path, request)

    async def close(self) -> None:
        """Take no more calls, let answers that have begun end for a while, and close the line; idempotent."""
        self._closed = True
        if self._attaching is not None:
            self._attaching.cancel()
            await asyncio.wait({self._attaching})
        if self._answering:
            await asyncio.wait(self._answering, timeout=self._grace)
        await self._line.close()
        if self._answering:
            await asyncio.wait(self._answering)

    async def _stay_attached(self) -> None:
        while True:
            self._answered.clear()
            try:
                await self._take_calls()
            except PEER_FAILURES as error:
                self._pauses.log("not_attached", self.address, error)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pauses.next()):
                    await self._answered.wait()

    async def _take_calls(self) -> None:
        """Attach, and answer calls until the peer lets go; raises PEER_FAILURES."""
        request = ATTACH.request().SerializeToString()
        async with aclosing(self._line.stream(ATTACH.path, request)) as received:
            async for data in received:
                call = decode_call(parse_message(ATTACH.answer, data))
                if call is None:
                    log.info("attached", peer=short(self._peer), address=self.address)
                    self._pauses.reset()
                elif len(self._answering) < MAX_ATTACHED_CALLS:
                    answering = asyncio.create_task(self._answer(call, self._messages(call)))
                    self._answering.add(answering)
                    answering.add_done_callback(self._answering.discard)
                else:
                    # Refused one by one: whoever floods this node waits for it.
                    await self._answer(call, _too_many())
        raise PeerUnavailableError("the peer let this node go")

    async def _messages(self, call: Call) -> AsyncGenerator[bytes]:
        """Yield what this node's handler answers; raises what it raises."""
        path = path_of(call.method)
        # Asked again before each message: a member may be revoked while it is taught.
        self._authorize(self._peer, path)
        if call.method in self._answers.unary:
            message = await self._answers.unary[call.method](self._peer, call.request)
            self._authorize(self._peer, path)
            yield within(message, MAX_ATTACHED_BYTES)
        elif call.method in self._answers.streams:
            async with aclosing(self._answers.streams[call.method](self._peer, call.request)) as messages:
                async for message in messages:
                    self._authorize(self._peer, path)
                    yield within(message, MAX_ATTACHED_BYTES)
        else:
            raise PeerRefusedError(f"this node answers no {call.method}")

    async def _answer(self, call: Call, messages: AsyncGenerator[bytes]) -> None:
        """Send an answer; its asker ends it, at the last part or before."""
        upload: Upload = self._line.channel.stream_unary(ANSWER.path)()
        sending = asyncio.create_task(self._send(upload, self._parts(call, messages)))
        try:
            await upload.code()
        finally:
            sending.cancel()
            await asyncio.wait({sending})

    async def _parts(self, call: Call, messages: AsyncGenerator[bytes]) -> AsyncGenerator[AnswerPart]:
        """Yield an answer from its number to its end, which says what went wrong; logs the call."""
        started = time.monotonic()
        outcome = "broken-off"
        try:
            yield call.number
            async with aclosing(messages):
                async for message in messages:
                    yield message
            outcome = "ok"
            yield CallEnd()
        except QktError as error:
            outcome = error.code
            yield _end(error)
        except Exception as error:
            outcome = "internal"
            log.exception("call_failed", method=call.method, peer=short(self._peer))
            yield _end(error)
        finally:
            seconds = round(time.monotonic() - started, 4)
            log.info(
                "call_served", method=call.method, peer=short(self._peer), outcome=outcome, seconds=seconds
            )

    async def _send(self, upload: Upload, parts: AsyncGenerator[AnswerPart]) -> None:
        """Send parts as the asker takes them; one that takes next to nothing for long loses the answer."""
        leeway = Leeway(STREAM_STALL_SECONDS)
        try:
            async with aclosing(parts):
                async for part in parts:
                    data = (
                        encode_response(part)
                        if isinstance(part, bytes)
                        else encode_answer_part(part).SerializeToString()
                    )
                    await leeway.wait(upload.write(data), len(data))
                await leeway.wait(upload.done_writing(), 0)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, TimeoutError) as error:
            log.debug("answer_not_taken", peer=short(self._peer), error=repr(error))
            upload.cancel()


async def _too_many() -> AsyncGenerator[bytes]:
    raise PeerBusyError(
        f"{MAX_ATTACHED_CALLS} calls of this peer run already", retry_after=BUSY_CALLS_SECONDS
    )
    yield


def _end(error: Exception) -> CallEnd:
    status, detail, _ = status_of(error)
    return CallEnd(status.value[0], detail, milliseconds_of(error))
