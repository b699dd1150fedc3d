"""The line to a peer over mutual TLS: one grpc channel on which only that peer can answer."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

import grpc

from qkt_p2p.errors import PeerUnavailableError
from qkt_p2p.transport.addresses import target_of
from qkt_p2p.transport.credentials import channel_credentials, channel_options
from qkt_p2p.transport.status import milliseconds_in, peer_error

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from qkt_p2p.identity.trust import Identity
    from qkt_p2p.types import PeerId

    UnaryCall = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
    StreamCall = grpc.aio.UnaryStreamMultiCallable[bytes, bytes]


class TlsLine:
    """A channel to `peer` at `address`, "host:port"; raises PeerUnavailableError where it is no address."""

    def __init__(self, peer: PeerId, address: str, identity: Identity) -> None:
        self.address = address
        self.channel = grpc.aio.secure_channel(
            target_of(address), channel_credentials(identity), options=channel_options(peer)
        )
        self.closed = False

    async def ask(self, path: str, request: bytes, *, seconds: float) -> bytes:
        """Return the answer, if it comes within `seconds`."""
        with self._translated():
            method: UnaryCall = self.channel.unary_unary(path)
            call = method(request, timeout=seconds)
            try:
                return await call
            except grpc.aio.AioRpcError as error:
                # A peer may answer in time that a deadline of its own has passed.
                if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED or call.time_remaining():
                    raise
                raise PeerUnavailableError(f"no answer within {seconds:g} s") from error

    async def stream(self, path: str, request: bytes) -> AsyncGenerator[bytes]:
        """Yield the parts of an answer."""
        with self._translated():
            call: StreamCall = self.channel.unary_stream(path)
            parts = call(request)
            try:
                while isinstance(part := await parts.read(), bytes):
                    yield part
            finally:
                parts.cancel()

    async def close(self) -> None:
        """Close the channel; idempotent."""
        self.closed = True
        await self.channel.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        if self.closed:
            raise PeerUnavailableError("the connection is closed")
        try:
            yield
        except grpc.aio.AioRpcError as error:
            again = milliseconds_in(error.trailing_metadata() or ())
            raise peer_error(error.code(), error.details() or "", again) from error
        except asyncio.CancelledError as error:
            # grpc cancels the calls of a channel that is closed, though nobody cancelled their task.
            task = asyncio.current_task()
            if not self.closed or task is None or task.cancelling():
                raise
            raise PeerUnavailableError("the connection was closed during the call") from error
