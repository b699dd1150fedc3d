"""Server interceptor: every call gets a proven caller, translated errors and one log line."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import structlog

from qkt_p2p.errors import DeadlineError, NotTrustedError, QktError
from qkt_p2p.identity.trust import peer_from_uris
from qkt_p2p.transport.status import status_of
from qkt_p2p.types import PeerId, short

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Context = grpc.aio.ServicerContext[Any, Any]

log = structlog.get_logger(__name__)


def caller_of(context: Context, federation: str) -> PeerId:
    """Return the peer id in the caller's certificate; raises NotTrustedError."""
    # peer_identities() would fall back to the common name where there is no URI: never use it.
    values = context.auth_context().get("peer_uri", [])
    try:
        uris = [value.decode("ascii") for value in values]
    except UnicodeDecodeError as error:
        raise NotTrustedError("the certificate holds a URI that is not ASCII") from error
    return peer_from_uris(uris, federation)


def member_guard(federation: str, *, stall_seconds: float) -> CallGuard:
    """Return the guard of a server that only members of `federation` may call."""
    return CallGuard(lambda context: short(caller_of(context, federation)), stall_seconds=stall_seconds)


class CallGuard(grpc.aio.ServerInterceptor):
    """Wraps every handler of a server.

    `name_caller` tells who calls, or raises NotTrustedError. A caller that takes nothing from its stream
    for `stall_seconds` loses it, so that nobody can hold what the stream holds.
    """

    def __init__(self, name_caller: Callable[[Context], str], *, stall_seconds: float | None = None) -> None:
        self._name_caller = name_caller
        self._stall_seconds = stall_seconds

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return the handler of the called method, guarded."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method.rpartition("/")[2]
        if handler is None:
            return handler
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(
                self._guard_stream(handler.unary_stream, method),
                request_deserializer=handler.request_deserializer,
                response_serializer=handler.response_serializer,
            )
        return grpc.unary_unary_rpc_method_handler(
            self._guard_unary(handler.unary_unary, method),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _guard_unary(self, behavior: Any, method: str) -> Any:
        async def guarded(request: Any, context: Context) -> Any:
            async with self._call(context, method):
                return await behavior(request, context)

        return guarded

    def _guard_stream(self, behavior: Any, method: str) -> Any:
        async def guarded(request: Any, context: Context) -> None:
            # Written from here instead of yielded: a call that ends closes the behavior at once.
            async with self._call(context, method), aclosing(behavior(request, context)) as responses:
                async for response in responses:
                    await self._write(context, response)

        return guarded

    async def _write(self, context: Context, response: Any) -> None:
        try:
            async with asyncio.timeout(self._stall_seconds):
                await context.write(response)
        except TimeoutError as error:
            raise DeadlineError(f"nothing was taken for {self._stall_seconds} s") from error

    @asynccontextmanager
    async def _call(self, context: Context, method: str) -> AsyncIterator[None]:
        started = time.monotonic()
        caller, outcome = "unknown", "ok"
        try:
            caller = self._name_caller(context)
            yield
        except QktError as error:
            outcome = error.code
            await context.abort(*status_of(error))
        except Exception as error:
            outcome = "internal"
            log.exception("call_failed", method=method, peer=caller)
            await context.abort(*status_of(error))
        except BaseException as error:
            outcome = type(error).__name__
            raise
        finally:
            level = log.debug if method == "Heartbeat" and outcome == "ok" else log.info
            level("call_served", method=method, peer=caller, outcome=outcome, seconds=_since(started))


def _since(started: float) -> float:
    return round(time.monotonic() - started, 4)
