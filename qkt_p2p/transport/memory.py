"""The peers' calls inside one process: no sockets, but the same client, codecs, caps and errors.

For tests and benchmarks of everything that is not the network.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import structlog

from qkt_p2p.errors import PeerUnavailableError, QktError
from qkt_p2p.limits import MAX_MESSAGE_BYTES
from qkt_p2p.transport.answers import Answers
from qkt_p2p.transport.client import USUAL_DEADLINES, PeerClient
from qkt_p2p.transport.methods import method_in, within
from qkt_p2p.transport.status import milliseconds_in, peer_error, status_of
from qkt_p2p.types import short

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Iterator

    from qkt_p2p.transport.client import Deadlines
    from qkt_p2p.transport.handler import PeerHandler
    from qkt_p2p.types import PeerId

log = structlog.get_logger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Node:
    answers: Answers
    gone: asyncio.Event = field(default_factory=asyncio.Event)


class MemoryNetwork:
    """Handlers by peer id; `connect` gives a client that speaks as `caller`."""

    def __init__(self) -> None:
        self._nodes: dict[PeerId, _Node] = {}

    def serve(self, peer: PeerId, handler: PeerHandler) -> None:
        """Let `handler` answer calls to `peer`."""
        self._nodes[peer] = _Node(Answers(handler))

    def remove(self, peer: PeerId) -> None:
        """Make `peer` unreachable in the midst of its calls, as a killed process would be."""
        node = self._nodes.pop(peer, None)
        if node is not None:
            node.gone.set()

    def connect(self, caller: PeerId, peer: PeerId, deadlines: Deadlines = USUAL_DEADLINES) -> PeerClient:
        """Return a client of `peer` whose calls carry `caller` as proven identity."""
        return PeerClient(peer, MemoryLine(self, caller, peer), deadlines)

    def node(self, peer: PeerId) -> _Node:
        """Return a reachable peer; raises PeerUnavailableError."""
        if peer not in self._nodes:
            raise PeerUnavailableError("nobody serves here")
        return self._nodes[peer]


class MemoryLine:
    """The in-process twin of TlsLine."""

    def __init__(self, network: MemoryNetwork, caller: PeerId, peer: PeerId) -> None:
        self.address = f"memory:{short(peer)}"
        self._network = network
        self._caller = caller
        self._peer = peer
        self._closed = asyncio.Event()

    async def ask(self, path: str, request: bytes, *, seconds: float) -> bytes:
        """Return the answer, if it comes within `seconds`."""
        with _translated():
            node = self._node()
            answer = node.answers.unary[method_in(path)](self._caller, _carried(request))
            return _carried(await self._unless_gone(node, answer, seconds))

    async def stream(self, path: str, request: bytes) -> AsyncGenerator[bytes]:
        """Yield the parts of an answer."""
        with _translated():
            node = self._node()
            answer = node.answers.streams[method_in(path)](self._caller, _carried(request))
            async with aclosing(answer) as parts:
                while (part := await self._unless_gone(node, anext(parts, None))) is not None:
                    yield _carried(part)

    async def close(self) -> None:
        """Give the line up; running calls end as unavailable. Idempotent."""
        self._closed.set()

    def _node(self) -> _Node:
        if self._closed.is_set():
            raise PeerUnavailableError("the connection is closed")
        return self._network.node(self._peer)

    async def _unless_gone(self, node: _Node, work: Awaitable[T], seconds: float | None = None) -> T:
        """Return what `work` does; raises PeerUnavailableError if peer, line or time goes first."""
        serving = asyncio.ensure_future(_awaited(work))
        ends = [asyncio.ensure_future(event.wait()) for event in (node.gone, self._closed)]
        try:
            await asyncio.wait([serving, *ends], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if any(end.done() for end in ends):
                raise PeerUnavailableError("the connection was closed during the call")
            if not serving.done():
                raise PeerUnavailableError(f"no answer within {seconds} s")
            return serving.result()
        finally:
            for task in (serving, *ends):
                task.cancel()
            await asyncio.gather(serving, *ends, return_exceptions=True)


async def _awaited(work: Awaitable[T]) -> T:
    return await work


def _carried(message: bytes) -> bytes:
    return within(message, MAX_MESSAGE_BYTES)


@contextmanager
def _translated() -> Iterator[None]:
    """Turn an error into what the same error would be after its way over grpc."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, QktError):
            log.exception("call_failed")
        status, detail, trailing = status_of(error)
        raise peer_error(status, detail, milliseconds_in(trailing)) from error
