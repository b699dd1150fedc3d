"""Answers the owner's command line on the home's unix socket."""

from __future__ import annotations

import json
import os
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

import grpc

from qkt_node.control.target import unix_target
from qkt_node.events import Ended, QueryOptions, Started
from qkt_node.renewing import warnings_of
from qkt_p2p import __version__
from qkt_p2p.errors import ConfigError
from qkt_p2p.pb import control_pb2 as pb
from qkt_p2p.pb import control_pb2_grpc
from qkt_p2p.transport.guard import CallGuard
from qkt_p2p.types import Progress, QueryId

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from qkt_node.events import QueryEvent
    from qkt_node.model_versions import ModelVersions
    from qkt_node.profile import Profile
    from qkt_node.queries import Queries
    from qkt_node.serving import Serving
    from qkt_node.trust_keeper import TrustKeeper
    from qkt_node.worker.client import Worker
    from qkt_p2p.discovery import Member, Membership
    from qkt_p2p.store.records import QueryRecord

    Context = grpc.aio.ServicerContext[Any, Any]


LISTED: Final = ("mean_query_accuracy",)
"""What a list of queries holds of their results."""


class ControlServer:
    """Listens on the unix socket at `path`; only its owner can open it."""

    def __init__(self, path: Path, servicer: ControlServicer) -> None:
        self._path = path
        self._server = grpc.aio.server(interceptors=[CallGuard(lambda _: "owner")])
        control_pb2_grpc.add_ControlServiceServicer_to_server(servicer, self._server)

    async def start(self) -> None:
        """Bind the socket with mode 0600 and serve; raises ConfigError."""
        # The home's lock is ours, so a socket that is still there belongs to nobody.
        self._path.unlink(missing_ok=True)
        previous = os.umask(0o177)
        try:
            self._server.add_insecure_port(unix_target(self._path))
        except RuntimeError as error:
            raise ConfigError(
                f"cannot listen on {self._path}", fix="choose a --home in which a unix socket can be made"
            ) from error
        finally:
            os.umask(previous)
        await self._server.start()

    async def stop(self) -> None:
        """End at once; the command line sees its daemon go."""
        await self._server.stop(0.5)
        self._path.unlink(missing_ok=True)


class ControlServicer(control_pb2_grpc.ControlServiceServicer):
    """The owner's calls on the parts of one daemon."""

    def __init__(
        self,
        keeper: TrustKeeper,
        queries: Queries,
        *,
        models: ModelVersions,
        profile: Profile,
        membership: Membership,
        serving: Serving,
        worker: Worker,
    ) -> None:
        self._keeper = keeper
        self._standing = keeper.standing
        self._profile = profile
        self._models = models
        self._membership = membership
        self._serving = serving
        self._queries = queries
        self._worker = worker
        self._started = time.monotonic()

    async def GetStatus(self, request: pb.GetStatusRequest, context: Context) -> pb.GetStatusResponse:
        model, identity = self._profile.model, self._standing.identity
        return pb.GetStatusResponse(
            node_name=self._profile.name,
            peer_id=identity.peer_id,
            federation=identity.federation,
            addresses=self._profile.addresses,
            pid=os.getpid(),
            uptime_seconds=time.monotonic() - self._started,
            model_version=model.version,
            local_classes=model.local,
            known_classes=model.known,
            live_peers=len(self._membership.live()),
            worker_state=self._worker.state,
            software_version=__version__,
            certificate_not_after=int(identity.not_after.timestamp()),
            warnings=[*warnings_of(self._standing), *self._profile.warnings],
            revoked=sorted(self._standing.revoked()),
            teaching=self._serving.teaching.running,
            waiting=self._serving.teaching.waiting,
        )

    async def ListPeers(self, request: pb.ListPeersRequest, context: Context) -> pb.ListPeersResponse:
        return pb.ListPeersResponse(
            peers=[self._peer_status(member) for member in self._membership.members()]
        )

    async def ReloadTrust(self, request: pb.ReloadTrustRequest, context: Context) -> pb.ReloadTrustResponse:
        await self._keeper.reload()
        identity = self._standing.identity
        return pb.ReloadTrustResponse(
            peer_id=identity.peer_id,
            certificate_not_after=int(identity.not_after.timestamp()),
            revoked=sorted(self._standing.revoked()),
        )

    async def RunQuery(
        self, request: pb.RunQueryRequest, context: Context
    ) -> AsyncIterator[pb.RunQueryResponse]:
        fields = {field: getattr(request, field) for field in QueryOptions.__dataclass_fields__}
        options = QueryOptions(**{**fields, "classes": tuple(request.classes)})
        async with aclosing(self._queries.start(options)) as events:
            async for event in events:
                yield _encode_event(event)

    async def WatchQuery(
        self, request: pb.WatchQueryRequest, context: Context
    ) -> AsyncIterator[pb.WatchQueryResponse]:
        async with aclosing(self._queries.watch(QueryId(request.query_id))) as events:
            async for event in events:
                yield pb.WatchQueryResponse(event=_encode_event(event))

    async def CancelQuery(self, request: pb.CancelQueryRequest, context: Context) -> pb.CancelQueryResponse:
        query_id = QueryId(request.query_id)
        was_running = self._queries.is_under_way(query_id)
        state = await self._queries.cancel(query_id)
        return pb.CancelQueryResponse(was_running=was_running, state=state)

    async def ListQueries(self, request: pb.ListQueriesRequest, context: Context) -> pb.ListQueriesResponse:
        query_id = QueryId(request.query_id)
        if query_id:
            found = self._queries.record(query_id)
            return pb.ListQueriesResponse(queries=[_encode_query(found, found.result_json)])
        records = self._queries.records()
        return pb.ListQueriesResponse(
            queries=[_encode_query(record, _in_short(record.result_json)) for record in records]
        )

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        return pb.ListModelsResponse(
            models=[
                pb.ModelSummary(
                    version=record.version,
                    current=record.version == self._models.current,
                    parent=record.parent,
                    created_at=record.created_at,
                    known_classes=record.known_classes,
                    query_id=record.query_id,
                    file=record.file,
                )
                for record in self._models.records()
            ],
            rollbacks=[
                pb.ModelRollback(
                    rolled_back_at=record.rolled_back_at, replaced=record.replaced, version=record.version
                )
                for record in self._models.rollbacks()
            ],
        )

    async def RollBackModel(
        self, request: pb.RollBackModelRequest, context: Context
    ) -> pb.RollBackModelResponse:
        replaced = self._models.current
        model = await self._models.roll_back(request.version)
        return pb.RollBackModelResponse(version=model.version, replaced=replaced, known_classes=model.known)

    async def DiffModels(self, request: pb.DiffModelsRequest, context: Context) -> pb.DiffModelsResponse:
        found = await self._models.compare(request.before, request.after)
        return pb.DiffModelsResponse(
            trained_before=found.trained_before,
            trained_after=found.trained_after,
            measured_on=found.accuracy[0].measured_on if found.accuracy else "",
            classes=[
                pb.ClassDifference(class_name=each.class_name, before=each.before, after=each.after)
                for each in found.accuracy
            ],
        )

    def _peer_status(self, member: Member) -> pb.PeerStatus:
        certificate = self._standing.certificate_of(member.peer)
        return pb.PeerStatus(
            peer_id=member.peer,
            node_name=member.description.node_name,
            state=member.state,
            address=member.address,
            known_classes=member.description.known_classes,
            last_seen_seconds=member.last_seen,
            round_trip_seconds=member.round_trip,
            found_by=member.found_by,
            certificate_not_after=int(certificate.not_after.timestamp()) if certificate else 0,
        )


def _encode_query(record: QueryRecord, result_json: str) -> pb.QuerySummary:
    return pb.QuerySummary(
        query_id=record.query_id,
        classes=record.classes,
        state=record.state,
        started_at=record.started_at,
        result_json=result_json,
        step=record.step,
        token=record.token,
    )


def _in_short(result_json: str) -> str:
    """Return what a list shows of a result, which as a whole may take 50 kB and far more."""
    result = json.loads(result_json) if result_json else {}
    return json.dumps({key: result[key] for key in LISTED if key in result})


def _encode_event(event: QueryEvent) -> pb.RunQueryResponse:
    match event:
        case Started():
            return pb.RunQueryResponse(started=pb.QueryStarted(query_id=event.query_id))
        case Ended():
            return pb.RunQueryResponse(ended=_encode_end(event))
        case Progress():
            progress = pb.QueryProgress(
                step=event.step, done=event.done, total=event.total, message=event.message
            )
            return pb.RunQueryResponse(progress=progress)


def _encode_end(event: Ended) -> pb.QueryEnded:
    ended = pb.QueryEnded(result_json=json.dumps(event.data))
    if event.error is not None:
        ended.error_code = event.error.code
        ended.error_message = event.error.message
        ended.error_fix = event.error.fix
    return ended
