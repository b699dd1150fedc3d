"""`cluster query --all`: what one daemon cannot answer leaves the results of the others."""

from pathlib import Path
from typing import Any, cast

import pytest

from qkt_node.cli import cluster_query
from qkt_node.cli.output import Answer, Format, Output
from qkt_node.cli.tables import Table
from qkt_node.cluster.layout import Cluster, ClusterFolder, ClusterNode
from qkt_node.events import QueryOptions
from qkt_p2p.errors import CancelledError, NotRunningError, QktError
from qkt_p2p.outcome import QueryOutcome
from qkt_p2p.types import ClassName, Query, QueryId

A, B, C = (ClassName(name) for name in "abc")
NODES = tuple(ClusterNode(f"node-{name}", "", (name,)) for name in (A, B, C))
CLUSTER = Cluster("digits", "mlp", 0, (A, B, C), NODES)


def asked_all(monkeypatch: pytest.MonkeyPatch, failure: QktError) -> Answer:
    """Return the answer where node-b fails so, and all others learn."""

    async def answer(home: Path, options: QueryOptions, bars: object) -> tuple[dict[str, Any], None]:
        if home.name == "node-b":
            raise failure
        query = Query(QueryId("0" * 16), tuple(map(ClassName, options.classes)), "moments", 1, 10.0)
        return QueryOutcome(query, outcome="accepted").as_data(), None

    monkeypatch.setattr(cluster_query, "run_query", answer)
    output, folder = Output("cluster query", Format.JSON), ClusterFolder(Path("x"))
    return cluster_query._query_all(output, folder, cluster=CLUSTER, options=QueryOptions(()))


def queries_of(answer: Answer) -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", answer.data["queries"])


def test_a_daemon_that_is_down_fails_its_own_queries_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """All others are asked, before it and after it, and the answer's error is the first failure."""
    down = NotRunningError("no daemon answers", fix="qkt-node start")
    answer = asked_all(monkeypatch, down)
    assert answer.error is down
    queries = queries_of(answer)
    told = [(each["asker"], *each["classes"], each["outcome"]) for each in queries]
    assert told == [
        ("node-a", "b", "accepted"),
        ("node-a", "c", "accepted"),
        ("node-b", "a", "failed"),
        ("node-b", "c", "failed"),
        ("node-c", "a", "accepted"),
        ("node-c", "b", "accepted"),
    ]
    assert queries[2]["reason"] == "no daemon answers"
    (table,) = answer.shown
    assert isinstance(table, Table)
    assert [row[-2] for row in table.rows] == [outcome for _, _, outcome in told]


def test_an_owner_ends_it_with_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second Ctrl-C raises; nobody else is asked then."""
    answer = asked_all(monkeypatch, CancelledError("interrupted"))
    assert isinstance(answer.error, CancelledError)
    assert [each["asker"] for each in queries_of(answer)] == ["node-a", "node-a", "node-b"]
