"""`status`, `peers`, `queries`, `models`: what the daemon of a home knows."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from qkt_node.cli.output import Answer, Output, Table
from qkt_node.cli.query import percent, shown_result
from qkt_node.cli.verbs import HomeOption
from qkt_p2p.errors import UsageError

if TYPE_CHECKING:
    from qkt_node.control.client import ControlClient
    from qkt_p2p.pb import control_pb2 as pb

T = TypeVar("T")


class QueriesAction(StrEnum):
    """What to do with queries."""

    LIST = "list"
    SHOW = "show"
    CANCEL = "cancel"


class ModelsAction(StrEnum):
    """What to do with model versions."""

    LIST = "list"


def status(output: Output, home: HomeOption) -> Answer:
    """Show what the daemon is, serves and holds."""
    found = _ask(home, lambda client: client.status())
    data = {
        "node": found.node_name,
        "peer_id": found.peer_id,
        "federation": found.federation,
        "addresses": list(found.addresses),
        "pid": found.pid,
        "uptime_seconds": round(found.uptime_seconds, 1),
        "model_version": found.model_version,
        "local_classes": list(found.local_classes),
        "known_classes": list(found.known_classes),
        "live_peers": found.live_peers,
        "worker": found.worker_state,
        "teaching": found.teaching,
        "waiting": found.waiting,
        "version": found.software_version,
        "certificate_not_after": _time(found.certificate_not_after),
        "revoked": list(found.revoked),
        "warnings": list(found.warnings),
    }
    rows = [[key.replace("_", " "), _cell(value)] for key, value in data.items() if key != "warnings"]
    return Answer(data, [Table(["", ""], rows), *(f"warning: {each}" for each in found.warnings)])


def peers(output: Output, home: HomeOption) -> Answer:
    """List the peers that the daemon knows."""
    found = _ask(home, lambda client: client.peers())
    data = [_peer(peer) for peer in found.peers]
    rows = [
        [
            peer["name"],
            peer["peer_id"][:8],
            peer["state"],
            peer["address"] or "-",
            peer["found_by"],
            (peer["certificate_not_after"] or "-")[:10],
            f"{peer['last_seen_seconds']:.0f} s ago",
            f"{1000 * peer['round_trip_seconds']:.1f} ms" if peer["round_trip_seconds"] else "-",
            ", ".join(peer["known_classes"]),
        ]
        for peer in data
    ]
    columns = ["peer", "id", "state", "address", "found by", "certified until", "seen", "round trip", "knows"]
    shown = Table(columns, rows) if rows else "no peers yet: set [discovery] bootstrap in node.toml"
    return Answer({"peers": data}, [shown])


def queries(
    output: Output,
    home: HomeOption,
    action: Annotated[QueriesAction, typer.Argument(help="What to do.")] = QueriesAction.LIST,
    query_id: Annotated[str, typer.Argument(metavar="ID", help="Which query; not for list.")] = "",
) -> Answer:
    """List queries, show one with its result, or cancel it."""
    if action is QueriesAction.LIST:
        found = _ask(home, lambda client: client.queries())
        return Answer({"queries": [_query(query) for query in found.queries]}, [_query_table(found)])
    if not query_id:
        raise UsageError(f"queries {action} needs the ID of a query", fix=f"qkt-node queries --home {home}")
    if action is QueriesAction.CANCEL:
        was_running = _ask(home, lambda client: client.cancel_query(query_id))
        if not was_running:
            raise UsageError(f"no query {query_id} is running", fix=f"qkt-node queries --home {home}")
        return Answer({"query_id": query_id, "cancelled": True}, [f"cancelled {query_id}"])
    shown = _ask(home, lambda client: client.queries(query_id)).queries[0]
    result = json.loads(shown.result_json) if shown.result_json else None
    text: list[str | Table] = [f"query {shown.query_id}: {shown.state}"]
    return Answer(
        {**_query(shown), "result": result},
        [*text, *(shown_result(result) if result else [])],
    )


def models(
    output: Output,
    home: HomeOption,
    action: Annotated[ModelsAction, typer.Argument(help="What to do.")] = ModelsAction.LIST,
) -> Answer:
    """List the versions of this node's model."""
    found = _ask(home, lambda client: client.models())
    data = [_model(model) for model in found.models]
    rows = [
        [
            f"{model['version']}{' (current)' if model['current'] else ''}",
            str(model["parent"] or "-"),
            model["created_at"],
            ", ".join(model["known_classes"]),
            model["query_id"] or "first training",
        ]
        for model in data
    ]
    return Answer({"models": data}, [Table(["version", "from", "made", "knows", "by"], rows)])


def _ask(home: Path, question: Callable[["ControlClient"], Awaitable[T]]) -> T:
    async def ask() -> T:
        from qkt_node.control.client import connect
        from qkt_node.home import open_home

        async with connect(open_home(home)) as client:
            return await question(client)

    return asyncio.run(ask())


def _peer(peer: "pb.PeerStatus") -> dict[str, Any]:
    return {
        "peer_id": peer.peer_id,
        "name": peer.node_name,
        "state": peer.state,
        "address": peer.address,
        "found_by": peer.found_by,
        "known_classes": list(peer.known_classes),
        "last_seen_seconds": round(peer.last_seen_seconds, 2),
        "round_trip_seconds": round(peer.round_trip_seconds, 5),
        "certificate_not_after": _time(peer.certificate_not_after) if peer.certificate_not_after else None,
    }


def _query(query: "pb.QuerySummary") -> dict[str, Any]:
    return {
        "query_id": query.query_id,
        "classes": list(query.classes),
        "state": query.state,
        "started_at": _time(query.started_at),
    }


def _query_table(found: "pb.ListQueriesResponse") -> str | Table:
    rows = []
    for query in found.queries:
        result = json.loads(query.result_json) if query.result_json else {}
        after = result.get("mean_query_accuracy", {}).get("after")
        rows.append(
            [query.query_id, ", ".join(query.classes), query.state, _time(query.started_at), percent(after)]
        )
    if not rows:
        return "no queries yet: qkt-node query --classes ..."
    return Table(["query", "classes", "state", "started", "accuracy after"], rows)


def _model(model: "pb.ModelSummary") -> dict[str, Any]:
    return {
        "version": model.version,
        "current": model.current,
        "parent": model.parent,
        "created_at": _time(model.created_at),
        "known_classes": list(model.known_classes),
        "query_id": model.query_id,
        "file": model.file,
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _cell(value: object) -> str:
    return ", ".join(map(str, value)) or "-" if isinstance(value, list) else str(value)
