"""Server interceptor: every call gets a proven caller, translated errors and one log line."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import structlog

from qkt_p2p.errors import NotTrustedError, QktError
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
    values = context.auth_context().get("peer_spiffe_id", [])
    try:
        uris = [value.decode("ascii") for value in values]
    except UnicodeDecodeError as error:
        raise NotTrustedError("the certificate holds a URI that is not ASCII") from error
    return peer_from_uris(uris, federation)


def member_guard(federation: str) -> CallGuard:
    """Return the guard of a server that only members of `federation` may call."""
    return CallGuard(lambda context: short(caller_of(context, federation)))


class CallGuard(grpc.aio.ServerInterceptor):
    """Wraps every handler of a server; `name_caller` tells who calls, or raises NotTrustedError."""

    def __init__(self, name_caller: Callable[[Context], str]) -> None:
        self._name_caller = name_caller

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
        async def guarded(request: Any, context: Context) -> AsyncIterator[Any]:
            async with self._call(context, method):
                async for response in behavior(request, context):
                    yield response

        return guarded

    @asynccontextmanager
    async def _call(self, context: Context, method: str) -> AsyncIterator[None]:
        started = time.monotonic()
        caller, outcome = "unknown", "ok"
        try:
            caller = self._name_caller(context)
            yield
        except QktError as error:
            outcome = error.code
            status, detail, metadata = status_of(error)
            await context.abort(status, detail, metadata)
        except Exception:
            # A caller learns nothing about the inside of this node; its owner's log says all.
            outcome = "internal"
            log.exception("call_failed", method=method, peer=caller)
            await context.abort(grpc.StatusCode.INTERNAL, "internal error, see the log of this node")
        except BaseException as error:
            outcome = type(error).__name__
            raise
        finally:
            level = log.debug if method == "Heartbeat" and outcome == "ok" else log.info
            level("call_served", method=method, peer=caller, outcome=outcome, seconds=_since(started))


def _since(started: float) -> float:
    return round(time.monotonic() - started, 4)
