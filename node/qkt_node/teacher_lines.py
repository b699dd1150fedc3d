"""A peer as a query asks it: over whichever connection to it is open at the time of the call."""

from __future__ import annotations

from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qkt_p2p.limits import RECONNECT_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator

    from qkt_p2p.transport.client import PeerClient
    from qkt_p2p.types import PeerId, ProbeReport, ProbeRequest, TeachPart, TeachRequest


@dataclass(slots=True)
class TeacherLine:
    """The TeacherLink of a daemon: discovery dials a lost peer again, and a stream goes on over that line.

    `connected` returns a connection that is open within some seconds, or raises PeerUnavailableError; `heard`
    is told of every part that arrives.
    """

    peer: PeerId
    connected: Callable[[PeerId, float], Awaitable[PeerClient]]
    heard: Callable[[PeerId], None]
    bytes_sent: int = 0
    bytes_received: int = 0

    async def probe(self, request: ProbeRequest) -> ProbeReport:
        """Ask for evidence of what the peer's model knows."""
        with self._counted(await self.connected(self.peer, RECONNECT_SECONDS)) as line:
            return await line.probe(request)

    async def teach(self, request: TeachRequest) -> AsyncGenerator[TeachPart]:
        """Yield the parts of a masked synthetic response; closing it ends the peer's work."""
        with self._counted(await self.connected(self.peer, RECONNECT_SECONDS)) as line:
            async with aclosing(line.teach(request)) as parts:
                async for part in parts:
                    self.heard(self.peer)
                    yield part

    @contextmanager
    def _counted(self, line: PeerClient) -> Iterator[PeerClient]:
        sent, received = line.bytes_sent, line.bytes_received
        try:
            yield line
        finally:
            self.bytes_sent += line.bytes_sent - sent
            self.bytes_received += line.bytes_received - received
