"""Calls one peer over mutual TLS."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from qkt_p2p import limits
from qkt_p2p.errors import PeerUnavailableError
from qkt_p2p.pb import peer_pb2 as pb
from qkt_p2p.pb import peer_pb2_grpc
from qkt_p2p.transport.credentials import channel_credentials, channel_options
from qkt_p2p.transport.status import peer_error
from qkt_p2p.types import short
from qkt_p2p.wire import messages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Sequence

    from qkt_p2p.identity.trust import Identity
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


class PeerClient:
    """A channel to `peer` at `address`; nobody else can answer on it.

    `bytes_sent` and `bytes_received` count the messages of probes and responses.

    Every method has a deadline and raises a PeerError or NotTrustedError that names the peer.
    """

    def __init__(self, peer: PeerId, address: str, identity: Identity) -> None:
        self.peer = peer
        self.address = address
        self.bytes_sent = 0
        self.bytes_received = 0
        self._channel = grpc.aio.secure_channel(
            address, channel_credentials(identity), options=channel_options(peer)
        )
        self._stub = peer_pb2_grpc.PeerServiceStub(self._channel)

    @property
    def _who(self) -> str:
        return f"peer {short(self.peer)} at {self.address}"

    async def close(self) -> None:
        """Close the channel; running calls end as unavailable."""
        await self._channel.close()

    async def hello(self, node: NodeDescription) -> NodeDescription:
        """Introduce this node and return the peer's description."""
        request = pb.HelloRequest(node=messages.encode_description(node))
        response = await self._unary(self._stub.Hello(request, timeout=limits.CALL_SECONDS))
        return messages.decode_description(response.node)

    async def heartbeat(self, beat: Heartbeat) -> Heartbeat:
        """Send a beat and return the peer's; waits at most until the peer would count as silent."""
        state, model_version = messages.encode_heartbeat(beat)
        request = pb.HeartbeatRequest(state=state, model_version=model_version)
        timeout = limits.SILENT_AFTER_SECONDS - limits.HEARTBEAT_SECONDS
        return messages.decode_heartbeat(await self._unary(self._stub.Heartbeat(request, timeout=timeout)))

    async def exchange_peers(self, peers: Sequence[PeerAddress]) -> tuple[PeerAddress, ...]:
        """Tell live peers and return the peer's."""
        request = pb.ExchangePeersRequest(peers=messages.encode_peer_addresses(peers))
        response = await self._unary(self._stub.ExchangePeers(request, timeout=limits.CALL_SECONDS))
        return messages.decode_peer_addresses(response.peers)

    async def probe(self, request: ProbeRequest) -> ProbeReport:
        """Ask for evidence of what the peer's model knows."""
        message = messages.encode_probe_request(request)
        self.bytes_sent += message.ByteSize()
        response = await self._unary(self._stub.Probe(message, timeout=limits.PROBE_SECONDS))
        self.bytes_received += response.ByteSize()
        return messages.decode_probe_report(response)

    async def teach(self, request: TeachRequest) -> AsyncIterator[TeachPart]:
        """Yield the parts of a response; fails when none arrives for STREAM_STALL_SECONDS."""
        message = messages.encode_teach_request(request)
        self.bytes_sent += message.ByteSize()
        call = self._stub.Teach(message)
        try:
            while True:
                part = await self._next_part(call)
                if part is None:
                    return
                self.bytes_received += part.ByteSize()
                yield messages.decode_teach_part(part)
        finally:
            call.cancel()

    async def _next_part(self, call: Any) -> pb.TeachResponse | None:
        try:
            async with asyncio.timeout(limits.STREAM_STALL_SECONDS):
                part = await call.read()
        except TimeoutError as error:
            stall = f"{self._who}: nothing arrived for {limits.STREAM_STALL_SECONDS:.0f} s"
            raise PeerUnavailableError(stall) from error
        except grpc.aio.AioRpcError as error:
            raise peer_error(error, self._who) from error
        return None if part is grpc.aio.EOF else part

    async def _unary(self, call: Awaitable[T]) -> T:
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise peer_error(error, self._who) from error
