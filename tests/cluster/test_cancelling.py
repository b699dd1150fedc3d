"""`queries cancel` and `queries watch`: another command line than the one that asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.cluster.local_cluster import WAIT_SECONDS, WatchedQuery, ask, log_events, qkt, wait_until

if TYPE_CHECKING:
    from tests.cluster.local_cluster import LocalCluster


def test_a_query_is_cancelled_on_both_sides(cluster: LocalCluster) -> None:
    """Whoever watches hears it, the teacher gives up what it computed, and cancelling again is no error."""
    home, teacher = cluster.home("node-1"), cluster.home("node-2")
    asked = cluster.taught_by_both("node-1")
    frozen = [cluster.warm_worker(name) for name in ("node-2", "node-3")]
    before = len(log_events(teacher, "call_served"))
    # Workers that do not answer keep their daemons, and so the asker, waiting; one alone would be left out.
    for worker in frozen:
        worker.suspend()
    with WatchedQuery(home, "--classes", asked, "--trial") as query:
        query.wait_for("probe")
        watching = ("queries", "watch", query.query_id)
        with WatchedQuery(home, verb=watching) as leaving, WatchedQuery(home, verb=watching) as staying:
            for watcher in (leaving, staying):
                watcher.wait_for("probe")
            leaving.interrupt()
            assert leaving.end().exit_code == 130
            # Over the control socket: a command line more takes seconds of those that a probe is waited for.
            found = ask(home, lambda client: client.queries(query.query_id))
            assert found is not None
            assert [each.state for each in found.queries] == ["running"]
            cancelled = qkt("queries", "cancel", query.query_id, "--home", home.root)
            ends = [query.end(), staying.end()]
    assert cancelled.data == {"query_id": query.query_id, "cancelled": True}
    assert [(end.exit_code, end.error["code"]) for end in ends] == [(130, "cancelled")] * 2
    assert ends[0].data == ends[1].data
    wait_until(
        lambda: [
            event
            for event in log_events(teacher, "call_served")[before:]
            if (event["method"], event["outcome"]) == ("Probe", "CancelledError")
        ],
        "the teacher's call ends",
    )
    for worker in frozen:
        worker.wait(WAIT_SECONDS)
    shown = qkt("queries", "show", query.query_id, "--home", home.root).data
    assert (shown["state"], shown["step"]) == ("cancelled", "probe")
    assert qkt("queries", "cancel", query.query_id, "--home", home.root).data == cancelled.data
    assert qkt("queries", "watch", query.query_id, "--home", home.root).exit_code == 130


def test_what_cannot_be_cancelled(cluster: LocalCluster) -> None:
    """A query that ended, and one that there never was: the error tells which it is."""
    home = cluster.home("node-1")
    ended = cluster.query("node-1", "--classes", "nobody's")
    late = qkt("queries", "cancel", ended.data["query_id"], "--home", home.root)
    assert (late.exit_code, "has ended already: it is failed" in late.error["message"]) == (2, True)
    for action in ("cancel", "watch"):
        unknown = qkt("queries", action, "f" * 16, "--home", home.root)
        assert (unknown.exit_code, unknown.error["code"]) == (2, "usage")
        assert "there is no query" in unknown.error["message"]
