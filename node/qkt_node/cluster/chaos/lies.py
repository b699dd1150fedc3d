"""A node's answers, told wrong: what no honest daemon does, for askers to bear."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from qkt_p2p.types import Chunk, TeachOffer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from qkt_p2p.transport.handler import PeerHandler
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

LIES: Final = ("corrupt-chunk", "truncated-stream", "duplicate-chunk", "reordered-chunks")
"""Kinds of faults that only a teacher can make."""


@dataclass(frozen=True, slots=True)
class Lie:
    """What to do to each response: `kind` of LIES, at the chunk that is the `chunk`th to be sent."""

    kind: str
    chunk: int = 0


class LyingHandler:
    """A PeerHandler that answers as `honest` does, but for its `lie`, where it has one."""

    def __init__(self, honest: PeerHandler) -> None:
        self.lie: Lie | None = None
        self._honest = honest

    async def hello(self, caller: PeerId, node: NodeDescription) -> NodeDescription:
        """Answer honestly."""
        return await self._honest.hello(caller, node)

    async def heartbeat(self, caller: PeerId, beat: Heartbeat) -> Heartbeat:
        """Answer honestly."""
        return await self._honest.heartbeat(caller, beat)

    async def exchange_peers(self, caller: PeerId, peers: tuple[PeerAddress, ...]) -> tuple[PeerAddress, ...]:
        """Answer honestly."""
        return await self._honest.exchange_peers(caller, peers)

    async def exchange_revocations(self, caller: PeerId, lists: bytes) -> bytes:
        """Answer honestly."""
        return await self._honest.exchange_revocations(caller, lists)

    async def probe(self, caller: PeerId, request: ProbeRequest) -> ProbeReport:
        """Answer honestly."""
        return await self._honest.probe(caller, request)

    async def teach(self, caller: PeerId, request: TeachRequest) -> AsyncGenerator[TeachPart]:
        """Yield the honest response, with the lie that holds when its chunks begin."""
        async with aclosing(self._honest.teach(caller, request)) as honest:
            parts: AsyncIterator[TeachPart] = honest
            async for part in parts:
                yield part
                if isinstance(part, TeachOffer):
                    break
            if self.lie is not None:
                parts = _TOLD[self.lie.kind](parts, self.lie.chunk)
            async for part in parts:
                yield part


async def _corrupted(parts: AsyncIterator[TeachPart], number: int) -> AsyncGenerator[TeachPart]:
    async for at, part in _counted(parts):
        if isinstance(part, Chunk) and at == number:
            yield replace(part, data=bytes([part.data[0] ^ 0xFF]) + part.data[1:])
        else:
            yield part


async def _truncated(parts: AsyncIterator[TeachPart], number: int) -> AsyncGenerator[TeachPart]:
    async for at, part in _counted(parts):
        if at == number:
            return
        yield part


async def _repeated(parts: AsyncIterator[TeachPart], number: int) -> AsyncGenerator[TeachPart]:
    async for at, part in _counted(parts):
        yield part
        if isinstance(part, Chunk) and at == number:
            yield part


async def _backwards(parts: AsyncIterator[TeachPart], number: int) -> AsyncGenerator[TeachPart]:
    del number
    chunks: list[TeachPart] = []
    async for part in parts:
        if isinstance(part, Chunk):
            chunks.append(part)
            continue
        for chunk in reversed(chunks):
            yield chunk
        yield part


async def _counted(parts: AsyncIterator[TeachPart]) -> AsyncGenerator[tuple[int, TeachPart]]:
    at = 0
    async for part in parts:
        yield at, part
        at += 1


_TOLD: Final = {
    "corrupt-chunk": _corrupted,
    "truncated-stream": _truncated,
    "duplicate-chunk": _repeated,
    "reordered-chunks": _backwards,
}
