"""Serves a node's PeerHandler over mutual TLS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from qkt_p2p.errors import ConfigError
from qkt_p2p.limits import DRAIN_SECONDS, MAX_CONCURRENT_CALLS
from qkt_p2p.pb import peer_pb2 as pb
from qkt_p2p.pb import peer_pb2_grpc
from qkt_p2p.transport.credentials import server_credentials, server_options
from qkt_p2p.transport.guard import caller_of, member_guard
from qkt_p2p.wire import messages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from qkt_p2p.identity.trust import Identity
    from qkt_p2p.transport.handler import PeerHandler

    Context = grpc.aio.ServicerContext[Any, Any]


class PeerServer:
    """The listening side of a node; `start` binds, `stop` lets running calls finish."""

    def __init__(self, handler: PeerHandler, identity: Identity) -> None:
        self._server = grpc.aio.server(
            interceptors=[member_guard(identity.federation)],
            options=server_options(),
            maximum_concurrent_rpcs=MAX_CONCURRENT_CALLS,
        )
        self._identity = identity
        servicer = _PeerServicer(handler, identity.federation)
        peer_pb2_grpc.add_PeerServiceServicer_to_server(servicer, self._server)

    async def start(self, listen: str) -> int:
        """Bind `listen` ("host:port") and serve; return the port. Raises ConfigError."""
        fix = "set [node] listen in node.toml to a free host:port of this machine"
        try:
            port = self._server.add_secure_port(listen, server_credentials(self._identity))
        except RuntimeError as error:
            raise ConfigError(
                f"cannot listen on {listen}: the port is taken or the address is not of this machine", fix=fix
            ) from error
        if port == 0:
            raise ConfigError(f"cannot listen on {listen}", fix=fix)
        await self._server.start()
        return port

    async def stop(self, grace: float = DRAIN_SECONDS) -> None:
        """Refuse new calls at once and end running ones after `grace` seconds."""
        await self._server.stop(grace)


class _PeerServicer(peer_pb2_grpc.PeerServiceServicer):
    """Messages in, domain types to the handler, messages out."""

    def __init__(self, handler: PeerHandler, federation: str) -> None:
        self._handler = handler
        self._federation = federation

    async def Hello(self, request: pb.HelloRequest, context: Context) -> pb.HelloResponse:
        caller = caller_of(context, self._federation)
        node = await self._handler.hello(caller, messages.decode_description(request.node))
        return pb.HelloResponse(node=messages.encode_description(node))

    async def Heartbeat(self, request: pb.HeartbeatRequest, context: Context) -> pb.HeartbeatResponse:
        caller = caller_of(context, self._federation)
        beat = await self._handler.heartbeat(caller, messages.decode_heartbeat(request))
        state, model_version = messages.encode_heartbeat(beat)
        return pb.HeartbeatResponse(state=state, model_version=model_version)

    async def ExchangePeers(
        self, request: pb.ExchangePeersRequest, context: Context
    ) -> pb.ExchangePeersResponse:
        caller = caller_of(context, self._federation)
        hints = messages.decode_peer_addresses(request.peers)
        peers = await self._handler.exchange_peers(caller, hints)
        return pb.ExchangePeersResponse(peers=messages.encode_peer_addresses(peers))

    async def Probe(self, request: pb.ProbeRequest, context: Context) -> pb.ProbeResponse:
        caller = caller_of(context, self._federation)
        report = await self._handler.probe(caller, messages.decode_probe_request(request))
        return messages.encode_probe_report(report)

    async def Teach(self, request: pb.TeachRequest, context: Context) -> AsyncIterator[pb.TeachResponse]:
        caller = caller_of(context, self._federation)
        async for part in self._handler.teach(caller, messages.decode_teach_request(request)):
            yield messages.encode_teach_part(part)
