"""The same bytes by a bare stream of grpc.aio over mutual TLS: messages are the chunks, as they are."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc

from qkt_bench.transport.ends import End
from qkt_bench.transport.load import ASKER, TEACHER
from qkt_p2p.transport.credentials import channel_credentials, channel_options, server_credentials

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from qkt_bench.transport.ends import Arrived
    from qkt_bench.transport.load import Load


@asynccontextmanager
async def teacher(load: Load, _port: int) -> AsyncGenerator[End]:
    """Serve the chunks from memory."""
    chunks = list(load.data())

    async def give(_request: bytes, _context: Any) -> AsyncGenerator[bytes]:
        for chunk in chunks:
            yield chunk

    async def echo(request: bytes, _context: Any) -> bytes:
        return request

    methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Give": grpc.unary_stream_rpc_method_handler(give),
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bare", methods),))
    port = server.add_secure_port(f"{load.host}:0", server_credentials(load.standing(TEACHER)))
    await server.start()
    try:
        yield End(port)
    finally:
        await server.stop(0)


@asynccontextmanager
async def asker(load: Load, port: int) -> AsyncGenerator[End]:
    """Take them, and look at none."""
    identity = load.standing(ASKER).identity
    options = channel_options(load.standing(TEACHER).identity.peer_id)
    # Only the name is needed: the rest of grpc's options stays as grpc has it.
    named = [option for option in options if option[0] == "grpc.ssl_target_name_override"]
    async with grpc.aio.secure_channel(
        f"{load.host}:{port}", channel_credentials(identity), options=named
    ) as channel:
        yield End(asking=_Asking(channel))


class _Asking:
    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    async def round_trip(self) -> None:
        """Echo some bytes."""
        echo: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary("/bare/Echo")
        await echo(b"beat")

    async def fetch(self, arrived: Arrived) -> None:
        """Read the stream."""
        give: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = self._channel.unary_stream("/bare/Give")
        call = give(b"")
        while isinstance(await call.read(), bytes):
            arrived()
