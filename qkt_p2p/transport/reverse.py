"""Asks peers that nobody can dial, over the connections that they opened.

Such a peer attaches: it calls Attach, whose stream brings it this node's calls, and answers each by a
call of its own to Answer. So every answer has a stream of HTTP/2 to itself, with its flow control: a
large answer neither delays another nor piles up here, and either side ends it by ending its stream.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Final

import grpc

from qkt_p2p.errors import PeerBusyError, PeerRefusedError, PeerUnavailableError, ProtocolError
from qkt_p2p.limits import (
    BUSY_CALLS_SECONDS,
    CALL_SECONDS,
    MAX_ATTACHED_BYTES,
    MAX_ATTACHED_CALLS,
    MAX_ATTACHED_PEERS,
    RETRY_AFTER_SECONDS,
)
from qkt_p2p.transport.methods import ANSWER, method_in, parse_message, within
from qkt_p2p.transport.status import peer_error
from qkt_p2p.wire.calls import Call, CallEnd, decode_answer_part, encode_call
from qkt_p2p.wire.payloads import find_response

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
    from contextlib import AbstractContextManager

    from qkt_p2p.transport.client import Line
    from qkt_p2p.types import PeerId
    from qkt_p2p.wire.calls import AnswerPart

    Adopt = Callable[[PeerId, Line], AbstractContextManager[None]]

_STATUS: Final = {status.value[0]: status for status in grpc.StatusCode}


@dataclass(slots=True)
class _Running:
    """A call that its asker waits for; `answer` is there once the peer has begun to answer."""

    call: Call
    sent: bool = False
    answer: AsyncIterator[bytes] | None = None
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Attachment:
    """The calls to one attached peer, until it is no longer attached."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._running: dict[int, _Running] = {}
        self._changed = asyncio.Event()
        self._ended = False

    def end(self) -> None:
        """Send no more calls; those whose answers have begun may still go on. Idempotent."""
        self._ended = True
        self._changed.set()
        for running in self._running.values():
            running.begun.set()

    async def calls(self) -> AsyncGenerator[Call]:
        """Yield the calls to send, those that were given up meanwhile excepted."""
        while not self._ended:
            unsent = next((running for running in self._running.values() if not running.sent), None)
            if unsent is None:
                self._changed.clear()
                await self._changed.wait()
            else:
                unsent.sent = True
                yield unsent.call

    async def parts(self, method: str, request: bytes) -> AsyncGenerator[AnswerPart]:
        """Make a call and yield what the peer answers; closing it ends the peer's work."""
        with self._call(method, request) as running:
            await running.begun.wait()
            if running.answer is None:
                raise PeerUnavailableError("the peer went away before it answered")
            try:
                async for data in running.answer:
                    message = find_response(data)
                    yield (
                        decode_answer_part(parse_message(ANSWER.request, data))
                        if message is None
                        else message
                    )
            except grpc.aio.BaseError as error:
                raise PeerUnavailableError("the peer went away") from error

    async def serve(self, number: int, answer: AsyncIterator[bytes]) -> None:
        """Give the asker of a call its answer, and return when it wants no more of it."""
        running = self._running.get(number)
        if running is None or running.answer is not None:
            raise PeerRefusedError(f"no call {number} waits for an answer")
        running.answer = answer
        running.begun.set()
        await running.over.wait()

    @contextmanager
    def _call(self, method: str, request: bytes) -> Iterator[_Running]:
        if self._ended:
            raise PeerUnavailableError("the peer is no longer attached")
        if len(self._running) >= MAX_ATTACHED_CALLS:
            raise PeerBusyError(
                f"{MAX_ATTACHED_CALLS} calls to it run already", retry_after=BUSY_CALLS_SECONDS
            )
        running = _Running(Call(next(self._numbers), method, request))
        self._running[running.call.number] = running
        self._changed.set()
        try:
            yield running
        finally:
            del self._running[running.call.number]
            running.over.set()


class Attachments:
    """The peers that are attached to this node; answers their calls of Attach and Answer.

    `adopt` is entered with a peer and the line to it for as long as the peer is attached.
    """

    def __init__(self, adopt: Adopt) -> None:
        self._adopt = adopt
        self._attached: dict[PeerId, Attachment] = {}

    async def attach(self, caller: PeerId, _request: bytes) -> AsyncGenerator[bytes]:
        """Yield a greeting, then this node's calls to `caller`."""
        earlier = self._attached.get(caller)
        if earlier is not None:
            # What a peer opened before may be a dead connection that nobody has noticed yet.
            earlier.end()
        elif len(self._attached) >= MAX_ATTACHED_PEERS:
            raise PeerBusyError(
                f"{MAX_ATTACHED_PEERS} peers are attached to this node already",
                retry_after=RETRY_AFTER_SECONDS[1],
            )
        attachment = self._attached[caller] = Attachment()
        try:
            with self._adopt(caller, ReverseLine(attachment)):
                yield encode_call(None).SerializeToString()
                async with aclosing(attachment.calls()) as calls:
                    async for call in calls:
                        yield encode_call(call).SerializeToString()
        finally:
            attachment.end()
            if self._attached.get(caller) is attachment:
                del self._attached[caller]

    async def answer(self, caller: PeerId, parts: AsyncIterator[bytes]) -> bytes:
        """Take the answer to one call; returns when its asker wants no more."""
        number = await _number(parts)
        attachment = self._attached.get(caller)
        if attachment is None:
            raise PeerRefusedError("the caller is not attached")
        await attachment.serve(number, parts)
        return ANSWER.answer().SerializeToString()

    def end(self) -> None:
        """Let go of all peers."""
        for attachment in self._attached.values():
            attachment.end()


class ReverseLine:
    """The line to an attached peer; several may share one attachment."""

    def __init__(self, attachment: Attachment) -> None:
        self.address = "its attached line"
        self._attachment = attachment
        self._waits: set[asyncio.Timeout] = set()
        self._closed = False

    async def ask(self, path: str, request: bytes, *, seconds: float) -> bytes:
        """Return the answer, if it comes within `seconds`."""
        try:
            async with asyncio.timeout(seconds), aclosing(self.stream(path, request)) as parts:
                answer = await anext(parts, None)
                if answer is None or await anext(parts, None) is not None:
                    raise ProtocolError("it is not one message that came as answer")
                return answer
        except TimeoutError as error:
            raise PeerUnavailableError(f"no answer within {seconds:g} s") from error

    async def stream(self, path: str, request: bytes) -> AsyncGenerator[bytes]:
        """Yield the parts of an answer."""
        answer = self._attachment.parts(method_in(path), within(request, MAX_ATTACHED_BYTES))
        async with aclosing(answer) as parts:
            while isinstance(part := await self._next(parts), bytes):
                yield part
        if not isinstance(part, CallEnd):
            raise PeerUnavailableError("the answer broke off")
        if part.status:
            raise peer_error(_STATUS[part.status], part.detail, part.retry_after_milliseconds)

    async def close(self) -> None:
        """Give the line up; running calls end as unavailable. Idempotent."""
        self._closed = True
        now = asyncio.get_running_loop().time()
        for wait in self._waits:
            wait.reschedule(now)

    async def _next(self, parts: AsyncGenerator[AnswerPart]) -> AnswerPart | None:
        """Return the next part, None after the last; a line that is closed meanwhile ends the wait."""
        if self._closed:
            raise PeerUnavailableError("the connection is closed")
        try:
            async with asyncio.timeout(None) as wait:
                self._waits.add(wait)
                try:
                    return await anext(parts, None)
                finally:
                    self._waits.discard(wait)
        except TimeoutError as error:
            raise PeerUnavailableError("the connection was closed during the call") from error


async def _number(parts: AsyncIterator[bytes]) -> int:
    """Return the number with which an answer begins; raises ProtocolError."""
    try:
        async with asyncio.timeout(CALL_SECONDS):
            data = await anext(parts, None)
    except TimeoutError as error:
        raise ProtocolError("an answer did not say in time which call it is for") from error
    first = decode_answer_part(parse_message(ANSWER.request, data or b""))
    if not isinstance(first, int):
        raise ProtocolError("an answer does not begin with the number of its call")
    return first
