"""Serves a node's PeerHandler over mutual TLS."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final

import grpc

from qkt_p2p.errors import ConfigError
from qkt_p2p.limits import DRAIN_SECONDS, MAX_CONCURRENT_CALLS, STREAM_STALL_SECONDS
from qkt_p2p.pb import peer_pb2 as pb
from qkt_p2p.privacy.policy import Policy
from qkt_p2p.transport.answers import Answers
from qkt_p2p.transport.authorization import Authorization, caller_of
from qkt_p2p.transport.credentials import server_credentials, server_options
from qkt_p2p.transport.guard import member_guard
from qkt_p2p.transport.methods import ANSWER, ATTACH, HEARTBEAT, SERVICE
from qkt_p2p.transport.reverse import Attachments

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

    from qkt_p2p.identity.standing import Standing
    from qkt_p2p.transport.handler import PeerHandler
    from qkt_p2p.transport.reverse import Adopt
    from qkt_p2p.types import PeerId

    Context = grpc.aio.ServicerContext[Any, Any]
    MethodHandler = grpc.RpcMethodHandler[Any, Any]


_LEAVING: Final = pb.HeartbeatResponse(state=pb.NODE_STATE_DRAINING).SerializeToString()
"""Behind a response it replaces the state in it: of a field that comes twice, the last counts (protobuf)."""


class PeerServer:
    """The listening side of a node; `start` binds, `stop` lets running calls finish.

    It shows what `standing` holds at the moment of a connection, and ends calls of whoever is no longer
    admitted by `standing` and `policy`. `adopt` is entered with the line to each peer that nobody can dial,
    for as long as the peer is attached. A caller that takes nothing from a stream for `stall_seconds` loses
    it.
    """

    def __init__(
        self,
        handler: PeerHandler,
        standing: Standing,
        *,
        policy: Policy | None = None,
        adopt: Adopt = lambda _peer, _line: nullcontext(),
        stall_seconds: float = STREAM_STALL_SECONDS,
    ) -> None:
        self.authorization = Authorization(standing, policy or Policy())
        self._federation = standing.identity.federation
        self._server = grpc.aio.server(
            interceptors=[
                member_guard(self.authorization, self._federation, stall_seconds=stall_seconds),
            ],
            options=server_options(),
            maximum_concurrent_rpcs=MAX_CONCURRENT_CALLS,
        )
        self._standing = standing
        self.answers = answers = Answers(handler)
        self._attachments = Attachments(adopt)
        handlers = {name: self._unary(name, answer) for name, answer in answers.unary.items()}
        handlers |= {name: self._stream(answer) for name, answer in answers.streams.items()}
        handlers[ATTACH.name] = self._stream(self._attachments.attach)
        handlers[ANSWER.name] = self._upload(self._attachments.answer)
        service = grpc.method_handlers_generic_handler(SERVICE.full_name, handlers)
        self._server.add_generic_rpc_handlers((service,))

    async def start(self, listen: str) -> int:
        """Bind `listen` ("host:port") and serve; return the port. Raises ConfigError."""
        fix = "set [node] listen in node.toml to a free host:port of this machine"
        try:
            port = self._server.add_secure_port(listen, server_credentials(self._standing))
        except RuntimeError as error:
            raise ConfigError(
                f"cannot listen on {listen}: the port is taken or the address is not of this machine", fix=fix
            ) from error
        if port == 0:
            raise ConfigError(f"cannot listen on {listen}", fix=fix)
        await self._server.start()
        self._standing.watch(self.authorization.recheck)
        return port

    async def stop(self, grace: float = DRAIN_SECONDS) -> None:
        """Refuse new calls at once and end running ones after `grace` seconds."""
        self._attachments.end()
        await self._server.stop(grace)

    def _unary(self, method: str, answer: Callable[[PeerId, bytes], Awaitable[bytes]]) -> MethodHandler:
        async def serve(request: bytes, context: Context) -> bytes:
            response = await answer(caller_of(context, self._federation), request)
            if method == HEARTBEAT.name and self.authorization.is_outdated(context):
                # Whom the caller means is leaving: this node is another peer now.
                response += _LEAVING
            return response

        return grpc.unary_unary_rpc_method_handler(serve)

    def _stream(self, answer: Callable[[PeerId, bytes], AsyncGenerator[bytes]]) -> MethodHandler:
        def serve(request: bytes, context: Context) -> AsyncGenerator[bytes]:
            return answer(caller_of(context, self._federation), request)

        return grpc.unary_stream_rpc_method_handler(serve)

    def _upload(self, take: Callable[[PeerId, AsyncIterator[bytes]], Awaitable[bytes]]) -> MethodHandler:
        async def serve(requests: AsyncIterator[bytes], context: Context) -> bytes:
            return await take(caller_of(context, self._federation), requests)

        return grpc.stream_unary_rpc_method_handler(serve)
