"""The same bytes by a bare stream of grpc.aio over mutual TLS: messages are the chunks, as they are.

From memory to nowhere, or from one file to another: then both ends do what a journal at least has to.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, nullcontext
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

import grpc

from qkt_bench.transport.ends import End, Way
from qkt_bench.transport.load import ASKER, TEACHER
from qkt_p2p.transport.credentials import channel_credentials, channel_options, server_credentials

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Iterator
    from typing import IO

    from qkt_bench.transport.ends import Arrived
    from qkt_bench.transport.load import Load


def way(about: str, *, files: bool = False, as_daemons: bool = False) -> Way:
    """Return a way of this kind."""

    @asynccontextmanager
    async def teacher(load: Load, _port: int) -> AsyncGenerator[End]:
        async with _serving(load, _Payload(load) if files else list(load.data())) as end:
            yield end

    @asynccontextmanager
    async def asker(load: Load, port: int) -> AsyncGenerator[End]:
        with TemporaryFile(dir=load.folder, buffering=0) if files else nullcontext() as kept:
            async with _dialing(load, port, kept) as end:
                yield end

    return Way(teacher, asker, about, as_daemons=as_daemons)


class _Payload:
    """The chunks of a file, each time from its begin."""

    def __init__(self, load: Load) -> None:
        self._load = load

    def __iter__(self) -> Iterator[bytes]:
        with self._load.payload.open("rb", buffering=0) as file:
            while chunk := file.read(self._load.chunk_kib * 1024):
                yield chunk


@asynccontextmanager
async def _serving(load: Load, chunks: Iterable[bytes]) -> AsyncGenerator[End]:
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
async def _dialing(load: Load, port: int, kept: IO[bytes] | None) -> AsyncGenerator[End]:
    identity = load.standing(ASKER).identity
    options = channel_options(load.standing(TEACHER).identity.peer_id)
    # Only the name is needed: the rest of grpc's options stays as grpc has it.
    named = [option for option in options if option[0] == "grpc.ssl_target_name_override"]
    address = f"{load.host}:{port}"
    async with grpc.aio.secure_channel(address, channel_credentials(identity), options=named) as channel:
        yield End(asking=_Asking(channel, kept))


class _Asking:
    """Takes the chunks and looks at none; keeps them in a file where there is one."""

    def __init__(self, channel: grpc.aio.Channel, kept: IO[bytes] | None) -> None:
        self._channel = channel
        self._kept = kept

    async def round_trip(self) -> None:
        """Echo some bytes."""
        echo: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary("/bare/Echo")
        await echo(b"beat")

    async def fetch(self, arrived: Arrived) -> None:
        """Read the stream."""
        give: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = self._channel.unary_stream("/bare/Give")
        call = give(b"")
        while isinstance(chunk := await call.read(), bytes):
            if self._kept is not None:
                self._kept.write(chunk)
            arrived()
