"""A node's PeerHandler on bytes: what every transport calls once it knows who the caller is."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from qkt_p2p.pb import peer_pb2 as pb
from qkt_p2p.transport.methods import (
    EXCHANGE_PEERS,
    EXCHANGE_REVOCATIONS,
    HEARTBEAT,
    HELLO,
    PROBE,
    TEACH,
    parse_message,
)
from qkt_p2p.types import Chunk
from qkt_p2p.wire import messages
from qkt_p2p.wire.payloads import encode_chunk

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

    from qkt_p2p.transport.handler import PeerHandler
    from qkt_p2p.types import PeerId


class Answers:
    """Messages in, domain types to the handler, messages out.

    `unary` and `streams` hold an answer for each method by its name. A malformed request raises
    ProtocolError; whatever else the handler raises passes through.
    """

    def __init__(self, handler: PeerHandler) -> None:
        self._handler = handler
        self.unary: Mapping[str, Callable[[PeerId, bytes], Awaitable[bytes]]] = {
            HELLO.name: self._hello,
            HEARTBEAT.name: self._heartbeat,
            EXCHANGE_PEERS.name: self._exchange_peers,
            EXCHANGE_REVOCATIONS.name: self._exchange_revocations,
            PROBE.name: self._probe,
        }
        self.streams: Mapping[str, Callable[[PeerId, bytes], AsyncGenerator[bytes]]] = {
            TEACH.name: self._teach
        }

    async def _hello(self, caller: PeerId, data: bytes) -> bytes:
        request = parse_message(HELLO.request, data)
        node = await self._handler.hello(caller, messages.decode_description(request.node))
        return pb.HelloResponse(node=messages.encode_description(node)).SerializeToString()

    async def _heartbeat(self, caller: PeerId, data: bytes) -> bytes:
        request = parse_message(HEARTBEAT.request, data)
        beat = await self._handler.heartbeat(caller, messages.decode_heartbeat(request))
        return messages.encode_heartbeat(beat, pb.HeartbeatResponse).SerializeToString()

    async def _exchange_peers(self, caller: PeerId, data: bytes) -> bytes:
        request = parse_message(EXCHANGE_PEERS.request, data)
        hints = messages.decode_peer_addresses(request.peers)
        peers = await self._handler.exchange_peers(caller, hints)
        return pb.ExchangePeersResponse(peers=messages.encode_peer_addresses(peers)).SerializeToString()

    async def _exchange_revocations(self, caller: PeerId, data: bytes) -> bytes:
        told = messages.decode_revocations(parse_message(EXCHANGE_REVOCATIONS.request, data))
        lists = await self._handler.exchange_revocations(caller, told)
        return pb.ExchangeRevocationsResponse(lists=lists).SerializeToString()

    async def _probe(self, caller: PeerId, data: bytes) -> bytes:
        request = parse_message(PROBE.request, data)
        report = await self._handler.probe(caller, messages.decode_probe_request(request))
        return messages.encode_probe_report(report).SerializeToString()

    async def _teach(self, caller: PeerId, data: bytes) -> AsyncGenerator[bytes]:
        request = messages.decode_teach_request(parse_message(TEACH.request, data))
        async with aclosing(self._handler.teach(caller, request)) as parts:
            async for part in parts:
                if isinstance(part, Chunk):
                    yield encode_chunk(part)
                else:
                    yield messages.encode_teach_part(part).SerializeToString()
