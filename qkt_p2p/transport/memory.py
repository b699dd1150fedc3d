"""The peers' calls inside one process: no sockets, but the same codecs and the same errors.

For tests and benchmarks of everything that is not the network. Every message is serialized
and parsed, and every error passes through the status table, as over gRPC.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from qkt_p2p.errors import PeerUnavailableError, QktError
from qkt_p2p.pb import peer_pb2 as pb
from qkt_p2p.transport.status import PEER_ERROR_OF_STATUS, status_of
from qkt_p2p.types import short
from qkt_p2p.wire import messages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Sequence

    from google.protobuf.message import Message

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

T = TypeVar("T")


class MemoryNetwork:
    """Handlers by peer id; `connect` gives a client that speaks as `caller`."""

    def __init__(self) -> None:
        self._handlers: dict[PeerId, PeerHandler] = {}

    def serve(self, peer: PeerId, handler: PeerHandler) -> None:
        """Let `handler` answer calls to `peer`."""
        self._handlers[peer] = handler

    def remove(self, peer: PeerId) -> None:
        """Make `peer` unreachable, as a killed process would be."""
        self._handlers.pop(peer, None)

    def connect(self, caller: PeerId, peer: PeerId) -> MemoryClient:
        """Return a client of `peer` whose calls carry `caller` as proven identity."""
        return MemoryClient(self, caller, peer)

    def handler(self, peer: PeerId) -> PeerHandler:
        """Return the handler of a reachable peer; raises PeerUnavailableError."""
        if peer not in self._handlers:
            raise PeerUnavailableError(f"peer {short(peer)} in memory: nobody serves")
        return self._handlers[peer]


class MemoryClient:
    """The in-process twin of PeerClient."""

    def __init__(self, network: MemoryNetwork, caller: PeerId, peer: PeerId) -> None:
        self.peer = peer
        self.address = f"memory:{short(peer)}"
        self.bytes_sent = 0
        self.bytes_received = 0
        self._network = network
        self._caller = caller

    async def close(self) -> None:
        """Do nothing: there is no channel."""

    async def hello(self, node: NodeDescription) -> NodeDescription:
        """Introduce this node and return the peer's description."""
        request = _sent(pb.NodeDescription, messages.encode_description(node))

        async def serve() -> pb.NodeDescription:
            answer = await self._handler.hello(self._caller, messages.decode_description(request))
            return messages.encode_description(answer)

        return messages.decode_description(_sent(pb.NodeDescription, await self._call(serve())))

    async def heartbeat(self, beat: Heartbeat) -> Heartbeat:
        """Send a beat and return the peer's."""
        state, version = messages.encode_heartbeat(beat)
        request = _sent(pb.HeartbeatRequest, pb.HeartbeatRequest(state=state, model_version=version))

        async def serve() -> pb.HeartbeatResponse:
            answer = await self._handler.heartbeat(self._caller, messages.decode_heartbeat(request))
            state, version = messages.encode_heartbeat(answer)
            return pb.HeartbeatResponse(state=state, model_version=version)

        return messages.decode_heartbeat(_sent(pb.HeartbeatResponse, await self._call(serve())))

    async def exchange_peers(self, peers: Sequence[PeerAddress]) -> tuple[PeerAddress, ...]:
        """Tell live peers and return the peer's."""
        sent = pb.ExchangePeersRequest(peers=messages.encode_peer_addresses(peers))
        request = _sent(pb.ExchangePeersRequest, sent)

        async def serve() -> pb.ExchangePeersResponse:
            hints = messages.decode_peer_addresses(request.peers)
            answer = await self._handler.exchange_peers(self._caller, hints)
            return pb.ExchangePeersResponse(peers=messages.encode_peer_addresses(answer))

        response = _sent(pb.ExchangePeersResponse, await self._call(serve()))
        return messages.decode_peer_addresses(response.peers)

    async def probe(self, request: ProbeRequest) -> ProbeReport:
        """Ask for evidence of what the peer's model knows."""
        sent = _sent(pb.ProbeRequest, messages.encode_probe_request(request))
        self.bytes_sent += sent.ByteSize()

        async def serve() -> pb.ProbeResponse:
            report = await self._handler.probe(self._caller, messages.decode_probe_request(sent))
            return messages.encode_probe_report(report)

        response = _sent(pb.ProbeResponse, await self._call(serve()))
        self.bytes_received += response.ByteSize()
        return messages.decode_probe_report(response)

    async def teach(self, request: TeachRequest) -> AsyncIterator[TeachPart]:
        """Yield the parts of a response."""
        sent = _sent(pb.TeachRequest, messages.encode_teach_request(request))
        self.bytes_sent += sent.ByteSize()
        try:
            parts = self._handler.teach(self._caller, messages.decode_teach_request(sent))
            async for part in parts:
                self._network.handler(self.peer)  # a peer that was removed stops in mid-stream
                message = _sent(pb.TeachResponse, messages.encode_teach_part(part))
                self.bytes_received += message.ByteSize()
                yield messages.decode_teach_part(message)
        except QktError as error:
            raise self._translated(error) from error

    @property
    def _handler(self) -> PeerHandler:
        return self._network.handler(self.peer)

    async def _call(self, answer: Awaitable[T]) -> T:
        try:
            return await answer
        except QktError as error:
            raise self._translated(error) from error

    def _translated(self, error: QktError) -> QktError:
        status, detail, _ = status_of(error)
        return PEER_ERROR_OF_STATUS[status](f"peer {short(self.peer)}: {detail}")


M = TypeVar("M", bound="Message")


def _sent(kind: type[M], message: M) -> M:
    """Return the message as the other side parses it."""
    return kind.FromString(message.SerializeToString())
