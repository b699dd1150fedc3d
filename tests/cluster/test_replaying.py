"""`queries replay`: an ended query is asked again, and what came then is shown beside what comes now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.cluster.local_cluster import WAIT_SECONDS, WatchedQuery, qkt

if TYPE_CHECKING:
    from tests.cluster.local_cluster import LocalCluster


def test_a_replay_tells_then_and_now(cluster: LocalCluster) -> None:
    """Of the same peers and model it comes out the same to the digit, and it is a trial whatever it was."""
    home, name = cluster.home("node-1").root, cluster.plan.lacking("node-1")[0]
    first = cluster.query("node-1", "--classes", name, "--seed", 5, "--light")
    again = qkt("queries", "replay", first.data["query_id"], "--home", home)
    assert (first.exit_code, again.exit_code) == (0, 0)
    assert again.data["query_id"] != first.data["query_id"]
    same = ("classes", "seed", "mode", "medium", "masks", "accuracy")
    assert {key: again.data[key] for key in same} == {key: first.data[key] for key in same}
    compared = ("query_id", "outcome", "accuracy", "bytes_received")
    assert again.data["then"] == {key: first.data[key] for key in compared}
    assert again.data["trial"] is True


def test_what_was_forced_is_forced_again(cluster: LocalCluster) -> None:
    """Of an own class, which no query asks for otherwise; how the gate judged does not matter."""
    first = cluster.query("node-1", "--classes", cluster.own_and_taught("node-1"), "--force")
    again = qkt("queries", "replay", first.data["query_id"], "--home", cluster.home("node-1").root)
    assert (again.exit_code, again.data["outcome"]) == (first.exit_code, first.data["outcome"])
    assert again.data["force"] is True


def test_what_cannot_be_replayed(cluster: LocalCluster) -> None:
    """A query that there never was, and one that is under way."""
    home, asked = cluster.home("node-1").root, cluster.taught_by_both("node-1")
    unknown = qkt("queries", "replay", "f" * 16, "--home", home)
    assert (unknown.exit_code, "there is no query" in unknown.error["message"]) == (2, True)
    frozen = [cluster.warm_worker(name) for name in ("node-2", "node-3")]
    for worker in frozen:
        worker.suspend()
    with WatchedQuery(cluster.home("node-1"), "--classes", asked, "--trial") as query:
        query.wait_for("probe")
        early = qkt("queries", "replay", query.query_id, "--home", home)
        query.interrupt()
        assert query.end().exit_code == 130
    # Their daemons give them up with the probe.
    for worker in frozen:
        worker.wait(WAIT_SECONDS)
    assert (early.exit_code, "has not ended" in early.error["message"]) == (2, True)
