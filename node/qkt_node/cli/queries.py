"""`queries`: the queries of a home's daemon: what they are, how they go on, end, and are asked again."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qkt_node.cli.awaiting import run
from qkt_node.cli.output import Answer, Output
from qkt_node.cli.progress import StepBars
from qkt_node.cli.query import percent, run_query, shown_result, watch_query
from qkt_node.cli.question import ask_daemon, shown_time
from qkt_node.cli.tables import Table
from qkt_node.cli.verbs import HomeOption
from qkt_p2p.commands import command
from qkt_p2p.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qkt_p2p.pb import control_pb2 as pb


class QueriesAction(StrEnum):
    """What to do with queries."""

    LIST = "list"
    SHOW = "show"
    WATCH = "watch"
    CANCEL = "cancel"
    REPLAY = "replay"


def queries(
    output: Output,
    home: HomeOption,
    action: Annotated[QueriesAction, typer.Argument(help="What to do.")] = QueriesAction.LIST,
    query_id: Annotated[str, typer.Argument(metavar="ID", help="Which query; not for list.")] = "",
) -> Answer:
    """List queries, show one with its result, watch it to its end, cancel it, or ask it again as a trial."""
    if action is QueriesAction.LIST:
        found = ask_daemon(home, lambda client: client.queries())
        return Answer({"queries": [query_data(query) for query in found.queries]}, [_table(found, home)])
    if not query_id:
        raise UsageError(f"queries {action} needs the ID of a query", fix=command("queries", "--home", home))
    if action is QueriesAction.WATCH:
        return _watch(output, home, query_id)
    if action is QueriesAction.REPLAY:
        return _replay(output, home, query_id)
    return _cancel(home, query_id) if action is QueriesAction.CANCEL else _show(home, query_id)


def _show(home: Path, query_id: str) -> Answer:
    shown = query_of(home, query_id)
    result = result_of(shown)
    text: list[str | Table] = [f"query {shown.query_id}: {shown.state}"]
    return Answer({**query_data(shown), "result": result or None}, [*text, *shown_result(result)])


def _watch(output: Output, home: Path, query_id: str) -> Answer:
    with StepBars(output) as bars:
        data, error = run(watch_query(home, query_id, bars))
    return Answer(data, shown_result(data), error)


def _cancel(home: Path, query_id: str) -> Answer:
    """Cancel a query; one that ended in another way before is an error, one that was cancelled is not."""
    state = ask_daemon(home, lambda client: client.cancel_query(query_id))
    if state != "cancelled":
        raise UsageError(
            f"query {query_id} has ended already: it is {state}",
            fix=command("queries", "show", query_id, "--home", home),
        )
    return Answer({"query_id": query_id, "cancelled": True}, [f"cancelled {query_id}"])


def _replay(output: Output, home: Path, query_id: str) -> Answer:
    """Ask once more what an ended query asked, of today's peers and model; this one stays as it is."""
    from qkt_node.events import QueryOptions

    then = result_of(query_of(home, query_id))
    if not then:
        raise UsageError(
            f"query {query_id} has not ended: there is nothing to compare with yet",
            fix=command("queries", "watch", query_id, "--home", home),
        )
    options = QueryOptions(
        classes=tuple(then["classes"]),
        medium=then["medium"],
        seed=then.get("seed", 0),  # Unknown to queries of earlier versions, as is the next.
        force=then.get("force", False),
        light=then["mode"] == "light",
        trial=True,
    )
    with StepBars(output) as bars:
        data, error = run(run_query(home, options, bars))
    compared = {name: then[name] for name in ("query_id", "outcome", "accuracy", "bytes_received")}
    return Answer({**data, "then": compared}, [_then_and_now(then, data), *shown_result(data)], error)


def _then_and_now(then: "Mapping[str, Any]", now: "Mapping[str, Any]") -> Table:
    rows = [
        [
            name,
            *(
                percent(result["accuracy"].get(name, {}).get(moment))
                for result in (then, now)
                for moment in ("before", "after")
            ),
        ]
        for name in dict.fromkeys((*then["accuracy"], *now["accuracy"]))
    ]
    rows.append(["outcome", "", then["outcome"], "", now["outcome"]])
    columns = ["class", "then, before", "then, after", "now, before", "now, after"]
    return Table(columns, rows, f"Query {then['query_id']}, then and now")


def query_of(home: Path, query_id: str) -> "pb.QuerySummary":
    """Return a query of the journal; raises UsageError where there is none."""
    return ask_daemon(home, lambda client: client.queries(query_id)).queries[0]


def result_of(query: "pb.QuerySummary") -> dict[str, Any]:
    """Return a query's `data`, which is empty until it has ended."""
    result: dict[str, Any] = json.loads(query.result_json) if query.result_json else {}
    return result


def query_data(query: "pb.QuerySummary") -> dict[str, Any]:
    """Return a query of the journal for machines, without its result."""
    return {
        "query_id": query.query_id,
        "classes": list(query.classes),
        "state": query.state,
        "step": query.step,
        "started_at": shown_time(query.started_at),
        "token": query.token,
    }


def _table(found: "pb.ListQueriesResponse", home: Path) -> str | Table:
    rows = []
    for query in found.queries:
        after = result_of(query).get("mean_query_accuracy", {}).get("after")
        rows.append(
            [
                query.query_id,
                ", ".join(query.classes),
                query.state,
                shown_time(query.started_at),
                percent(after),
            ]
        )
    if not rows:
        return f"no queries yet: {command('query', '--home', home, '--classes', 'A,B')}"
    return Table(["query", "classes", "state", "started", "accuracy after"], rows)
