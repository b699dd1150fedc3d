"""Server interceptor: a call gets a proven, admitted caller, bounds in time, errors as status, a log line."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import grpc
import structlog

from qkt_p2p.errors import DeadlineError, NotTrustedError, ProtocolError, QktError
from qkt_p2p.limits import REQUEST_SECONDS
from qkt_p2p.transport.authorization import caller_of
from qkt_p2p.transport.leeway import Leeway
from qkt_p2p.transport.methods import HEARTBEAT, method_in
from qkt_p2p.transport.status import status_of
from qkt_p2p.types import short

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from qkt_p2p.transport.authorization import Authorization

    Context = grpc.aio.ServicerContext[Any, Any]

log = structlog.get_logger(__name__)


Gate = Callable[[Any, str], AbstractAsyncContextManager[None]]
"""From a call's context and path: admits the call for as long as the block runs; raises NotTrustedError."""

_Argument = Callable[[AsyncIterator[Any]], "Awaitable[Any]"]
"""From the stream that carries a call's requests: what its handler is called with."""


def member_guard(authorization: Authorization, federation: str, *, stall_seconds: float) -> CallGuard:
    """Return the guard of a server that only members of `federation` may call, as `authorization` says."""
    return CallGuard(
        lambda context: short(caller_of(context, federation)),
        gate=authorization.admitted,
        stall_seconds=stall_seconds,
    )


class CallGuard(grpc.aio.ServerInterceptor):
    """Wraps every handler of a server.

    `name_caller` tells who calls, or raises NotTrustedError; then `gate` decides, before the request is
    here: it has REQUEST_SECONDS to come. A caller that takes next to
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
        make = grpc.stream_unary_rpc_method_handler
        guard: Callable[..., Any] = self._guard_unary
        if handler.response_streaming:
            make, guard = grpc.stream_stream_rpc_method_handler, self._guard_stream
        # Whatever the method takes, grpc hands over the stream that carries it, as soon as it is opened.
        argument = _all_of if handler.request_streaming else _one_of
        guarded: grpc.RpcMethodHandler[Any, Any] = make(
            guard(_behavior(handler), argument, path),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )
        return guarded

    def _guard_unary(self, behavior: Any, argument: _Argument, path: str) -> Any:
        async def guarded(requests: AsyncIterator[Any], context: Context) -> Any:
            async with self._call(context, path):
                return await behavior(await argument(requests), context)

        return guarded

    def _guard_stream(self, behavior: Any, argument: _Argument, path: str) -> Any:
        async def guarded(requests: AsyncIterator[Any], context: Context) -> None:
            leeway = Leeway(self._stall_seconds)
            # Written from here instead of yielded: a call that ends closes the behavior at once.
            async with (
                self._call(context, path),
                aclosing(behavior(await argument(requests), context)) as parts,
            ):
                async for part in parts:
                    await self._write(context, part, leeway)

        return guarded

    async def _write(self, context: Context, part: Any, leeway: Leeway) -> None:
        try:
            await leeway.wait(context.write(part), len(part) if isinstance(part, bytes) else part.ByteSize())
        except TimeoutError as error:
            raise DeadlineError(f"next to nothing was taken for {self._stall_seconds} s") from error

    @asynccontextmanager
    async def _call(self, context: Context, path: str) -> AsyncIterator[None]:
        started = time.monotonic()
        method = method_in(path)
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
            level = log.debug if method == HEARTBEAT.name and outcome == "ok" else log.info
            level("call_served", method=method, peer=caller, outcome=outcome, seconds=_since(started))


async def _one_of(requests: AsyncIterator[Any]) -> Any:
    """Return the one request of a call."""
    try:
        async with asyncio.timeout(REQUEST_SECONDS):
            async for request in requests:
                return request
    except TimeoutError as error:
        raise DeadlineError(f"no request came within {REQUEST_SECONDS:g} s") from error
    raise ProtocolError("the call ended without a request")


async def _all_of(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """Return the requests of a call."""
    return requests


def _behavior(handler: grpc.RpcMethodHandler[Any, Any]) -> Any:
    """Return what a handler does."""
    behaviors = {
        (False, False): handler.unary_unary,
        (False, True): handler.unary_stream,
        (True, False): handler.stream_unary,
        (True, True): handler.stream_stream,
    }
    return behaviors[bool(handler.request_streaming), bool(handler.response_streaming)]


def _since(started: float) -> float:
    return round(time.monotonic() - started, 4)
