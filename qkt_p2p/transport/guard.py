"""Server interceptor: every call gets a proven, admitted caller, translated errors and one log line."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import grpc
import structlog

from qkt_p2p.errors import DeadlineError, NotTrustedError, QktError
from qkt_p2p.transport.authorization import caller_of
from qkt_p2p.transport.status import status_of
from qkt_p2p.types import short

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from qkt_p2p.transport.authorization import Authorization

    Context = grpc.aio.ServicerContext[Any, Any]

log = structlog.get_logger(__name__)


Gate = Callable[[Any, str], AbstractAsyncContextManager[None]]
"""From a call's context and path: admits the call for as long as the block runs; raises NotTrustedError."""


def member_guard(authorization: Authorization, federation: str, *, stall_seconds: float) -> CallGuard:
    """Return the guard of a server that only members of `federation` may call, as `authorization` says."""
    return CallGuard(
        lambda context: short(caller_of(context, federation)),
        gate=authorization.admitted,
        stall_seconds=stall_seconds,
    )


class CallGuard(grpc.aio.ServerInterceptor):
    """Wraps every handler of a server.

    `name_caller` tells who calls, or raises NotTrustedError; then `gate` decides. A caller that takes
    nothing from its stream for `stall_seconds` loses it, so that nobody can hold what the stream holds.
    """

    def __init__(
        self,
        name_caller: Callable[[Context], str],
        *,
        gate: Gate = lambda _context, _path: nullcontext(),
        stall_seconds: float | None = None,
    ) -> None:
        self._name_caller = name_caller
        self._gate = gate
        self._stall_seconds = stall_seconds

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return the handler of the called method, guarded."""
        handler = await continuation(handler_call_details)
        path = handler_call_details.method
        if handler is None:
            return handler
        make, behavior = _shape(handler)
        guard = self._guard_stream if handler.response_streaming else self._guard_unary
        guarded: grpc.RpcMethodHandler[Any, Any] = make(
            guard(behavior, path),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )
        return guarded

    def _guard_unary(self, behavior: Any, path: str) -> Any:
        async def guarded(request: Any, context: Context) -> Any:
            async with self._call(context, path):
                return await behavior(request, context)

        return guarded

    def _guard_stream(self, behavior: Any, path: str) -> Any:
        async def guarded(request: Any, context: Context) -> None:
            # Written from here instead of yielded: a call that ends closes the behavior at once.
            async with self._call(context, path), aclosing(behavior(request, context)) as responses:
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
    async def _call(self, context: Context, path: str) -> AsyncIterator[None]:
        started = time.monotonic()
        method = path.rpartition("/")[2]
        caller, outcome = "unknown", "ok"
        try:
            caller = self._name_caller(context)
            async with self._gate(context, path):
                yield
        except QktError as error:
            outcome = error.code
            if isinstance(error, NotTrustedError):
                log.warning("call_refused", method=method, peer=caller, reason=error.message)
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


def _shape(handler: grpc.RpcMethodHandler[Any, Any]) -> tuple[Callable[..., Any], Any]:
    """Return what makes a handler of the same directions, and what the handler does."""
    shapes: dict[tuple[bool, bool], tuple[Callable[..., Any], Any]] = {
        (False, False): (grpc.unary_unary_rpc_method_handler, handler.unary_unary),
        (False, True): (grpc.unary_stream_rpc_method_handler, handler.unary_stream),
        (True, False): (grpc.stream_unary_rpc_method_handler, handler.stream_unary),
        (True, True): (grpc.stream_stream_rpc_method_handler, handler.stream_stream),
    }
    return shapes[bool(handler.request_streaming), bool(handler.response_streaming)]


def _since(started: float) -> float:
    return round(time.monotonic() - started, 4)
