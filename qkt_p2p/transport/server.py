"""Serves a node's PeerHandler over mutual TLS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from qkt_p2p.errors import ConfigError
from qkt_p2p.limits import DRAIN_SECONDS, MAX_CONCURRENT_CALLS, STREAM_STALL_SECONDS
from qkt_p2p.transport.answers import Answers
from qkt_p2p.transport.credentials import server_credentials, server_options
from qkt_p2p.transport.guard import caller_of, member_guard
from qkt_p2p.transport.methods import SERVICE

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from qkt_p2p.identity.trust import Identity
    from qkt_p2p.transport.handler import PeerHandler
    from qkt_p2p.types import PeerId

    Context = grpc.aio.ServicerContext[Any, Any]
    MethodHandler = grpc.RpcMethodHandler[Any, Any]


class PeerServer:
    """The listening side of a node; `start` binds, `stop` lets running calls finish.

    A caller that takes nothing from a stream for `stall_seconds` loses it.
    """

    def __init__(
        self, handler: PeerHandler, identity: Identity, *, stall_seconds: float = STREAM_STALL_SECONDS
    ) -> None:
        self._server = grpc.aio.server(
            interceptors=[member_guard(identity.federation, stall_seconds=stall_seconds)],
            options=server_options(),
            maximum_concurrent_rpcs=MAX_CONCURRENT_CALLS,
        )
        self._identity = identity
        answers = Answers(handler)
        handlers = {name: self._unary(answer) for name, answer in answers.unary.items()}
        handlers |= {name: self._stream(answer) for name, answer in answers.streams.items()}
        service = grpc.method_handlers_generic_handler(SERVICE.full_name, handlers)
        self._server.add_generic_rpc_handlers((service,))

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

    def _unary(self, answer: Callable[[PeerId, bytes], Awaitable[bytes]]) -> MethodHandler:
        async def serve(request: bytes, context: Context) -> bytes:
            return await answer(caller_of(context, self._identity.federation), request)

        return grpc.unary_unary_rpc_method_handler(serve)

    def _stream(self, answer: Callable[[PeerId, bytes], AsyncGenerator[bytes]]) -> MethodHandler:
        def serve(request: bytes, context: Context) -> AsyncGenerator[bytes]:
            return answer(caller_of(context, self._identity.federation), request)

        return grpc.unary_stream_rpc_method_handler(serve)
