"""Calls the daemon of a home, for the command line."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import grpc

from qkt_node.control.target import unix_target
from qkt_node.events import Ended, QueryEvent, QueryOptions, Started
from qkt_node.home import holder_of, require_access
from qkt_p2p.commands import command
from qkt_p2p.errors import NotRunningError, error_from_code
from qkt_p2p.limits import CONTROL_SECONDS, MAX_CONTROL_MESSAGE_BYTES, MODELS_SECONDS
from qkt_p2p.pb import control_pb2 as pb
from qkt_p2p.pb import control_pb2_grpc
from qkt_p2p.transport.status import own_error
from qkt_p2p.types import Progress, QueryId

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable
    from pathlib import Path

    from qkt_node.home import Home

T = TypeVar("T")


class ControlClient:
    """One connection to a daemon; every method raises the very error that the daemon ended it with."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = control_pb2_grpc.ControlServiceStub(channel)

    async def status(self) -> pb.GetStatusResponse:
        """Return what the daemon is, serves and holds."""
        return await _answer(self._stub.GetStatus(pb.GetStatusRequest(), timeout=CONTROL_SECONDS))

    async def peers(self) -> pb.ListPeersResponse:
        """Return the peers that the daemon knows."""
        return await _answer(self._stub.ListPeers(pb.ListPeersRequest(), timeout=CONTROL_SECONDS))

    async def reload_trust(self) -> pb.ReloadTrustResponse:
        """Have the daemon read identity/ anew; raises what is wrong with it."""
        return await _answer(self._stub.ReloadTrust(pb.ReloadTrustRequest(), timeout=CONTROL_SECONDS))

    async def run_query(self, options: QueryOptions) -> AsyncIterator[QueryEvent]:
        """Run a query and yield its events; the query goes on if nobody listens any more."""
        fields = {field: getattr(options, field) for field in QueryOptions.__dataclass_fields__}
        try:
            async for event in self._stub.RunQuery(pb.RunQueryRequest(**fields)):
                yield _decode_event(event)
        except grpc.aio.AioRpcError as error:
            raise own_error(error) from error

    async def watch_query(self, query_id: str) -> AsyncIterator[QueryEvent]:
        """Yield the events of a query that was begun elsewhere; raises UsageError where there is none."""
        try:
            async for answer in self._stub.WatchQuery(pb.WatchQueryRequest(query_id=query_id)):
                yield _decode_event(answer.event)
        except grpc.aio.AioRpcError as error:
            raise own_error(error) from error

    async def cancel_query(self, query_id: str) -> str:
        """Cancel a query; return how it ended, now or before. Raises UsageError where there is none."""
        call = self._stub.CancelQuery(pb.CancelQueryRequest(query_id=query_id), timeout=CONTROL_SECONDS)
        return (await _answer(call)).state

    async def queries(self, query_id: str = "") -> pb.ListQueriesResponse:
        """Return the latest queries, in short, or one as a whole; raises UsageError where there is none."""
        request = pb.ListQueriesRequest(query_id=query_id)
        return await _answer(self._stub.ListQueries(request, timeout=CONTROL_SECONDS))

    async def models(self) -> pb.ListModelsResponse:
        """Return the model versions."""
        return await _answer(self._stub.ListModels(pb.ListModelsRequest(), timeout=CONTROL_SECONDS))

    async def roll_back_model(self, version: int) -> pb.RollBackModelResponse:
        """Make a version current again, 0 for the current one's parent; raises UsageError and ConfigError."""
        request = pb.RollBackModelRequest(version=version)
        return await _answer(self._stub.RollBackModel(request, timeout=MODELS_SECONDS))

    async def diff_models(self, before: int, after: int) -> pb.DiffModelsResponse:
        """Compare two versions; raises UsageError where there is none of that number, and ConfigError."""
        request = pb.DiffModelsRequest(before=before, after=after)
        return await _answer(self._stub.DiffModels(request, timeout=MODELS_SECONDS))


def open_channel(socket: Path) -> grpc.aio.Channel:
    """Return a channel to a daemon's socket; what it tells of a large federation passes."""
    options = [("grpc.max_receive_message_length", MAX_CONTROL_MESSAGE_BYTES)]
    return grpc.aio.insecure_channel(unix_target(socket), options)


@asynccontextmanager
async def connect(home: Home) -> AsyncIterator[ControlClient]:
    """Connect to the daemon of a home; raises NotRunningError where none answers.

    And NotTrustedError where it is another user's.
    """
    for each in (home.root, home.control_socket):
        require_access(each)
    if not home.control_socket.exists():
        raise _not_running(home)
    async with open_channel(home.control_socket) as channel:
        client = ControlClient(channel)
        try:
            await client.status()
        except NotRunningError as error:
            raise _not_running(home) from error
        yield client


def _not_running(home: Home) -> NotRunningError:
    holder = holder_of(home)
    if holder is not None:
        return NotRunningError(
            f"the daemon on {home.root} (process {holder}) does not answer yet: it starts or stops",
            fix="wait for the line that it prints when it is ready",
        )
    return NotRunningError(f"no daemon runs on {home.root}", fix=command("start", "--home", home.root))


def _decode_event(message: pb.RunQueryResponse) -> QueryEvent:
    match message.WhichOneof("event"):
        case "started":
            return Started(QueryId(message.started.query_id))
        case "ended":
            ended = message.ended
            error = error_from_code(ended.error_code, ended.error_message, ended.error_fix)
            return Ended(json.loads(ended.result_json), error if ended.error_code else None)
        case _:
            step = message.progress
            return Progress(step.step, step.done, step.total, step.message)


async def _answer(call: Awaitable[T]) -> T:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise own_error(error) from error
