"""Processes that are interrupted, killed or stopped in the middle of a query."""

from __future__ import annotations

import signal
from contextlib import closing
from typing import TYPE_CHECKING

from qkt_p2p.limits import SILENT_AFTER_SECONDS
from qkt_p2p.store.journal import Journal
from tests.cluster.local_cluster import (
    WAIT_SECONDS,
    WatchedQuery,
    ask,
    log_events,
    processes_below,
    qkt,
    wait_until,
)

if TYPE_CHECKING:
    from qkt_node.home import Home
    from tests.cluster.local_cluster import LocalCluster


def candidates(home: Home) -> list[str]:
    """Return what queries have in hand under models/."""
    return sorted(path.name for path in home.models.iterdir() if not path.name.startswith(("v", "current")))


def state_of(home: Home, query_id: str) -> str:
    """Return how the journal says that a query stands."""
    state: str = qkt("queries", "show", query_id, "--home", home.root).data["state"]
    return state


def test_an_interrupted_query_ends_on_both_sides(cluster: LocalCluster) -> None:
    """Ctrl-C ends with 130 and a cancelled query; the teacher gives up what it was computing for it."""
    asker, teacher = cluster.home("node-1"), cluster.home("node-2")
    asked = cluster.taught_by_both("node-1")
    frozen = cluster.warm_worker("node-2")
    before = len(log_events(teacher, "call_served"))
    # A worker that does not answer keeps its daemon, and so the asker, waiting.
    frozen.suspend()
    with WatchedQuery(asker, "--classes", asked) as query:
        query.wait_for("probe")
        query.interrupt()
        ended = query.end()
    assert (ended.exit_code, ended.error["code"]) == (130, "cancelled")
    assert ended.data["outcome"] == "failed"
    assert state_of(asker, query.query_id) == "cancelled"
    assert candidates(asker) == []
    wait_until(
        lambda: [
            event
            for event in log_events(teacher, "call_served")[before:]
            if (event["method"], event["outcome"]) == ("Probe", "CancelledError")
        ],
        "the teacher's call ends",
    )
    # What did not listen to the cancellation was ended, and the next query gets a new one.
    frozen.wait(WAIT_SECONDS)
    assert cluster.query("node-1", "--classes", asked).exit_code == 0


def test_an_interrupted_training_leaves_no_candidate(cluster: LocalCluster) -> None:
    """Ctrl-C ends the training, though its worker does not listen, and removes its half-made model."""
    home = cluster.home("node-1")
    with WatchedQuery(home, "--classes", cluster.taught_by_both("node-1")) as query:
        query.wait_for("phase2")
        # However fast phase 2 is, it is not over when the interruption comes.
        cluster.worker("node-1").suspend()
        assert candidates(home) == [f"candidate-{query.query_id}-phase1.safetensors"]
        query.interrupt()
        assert query.end().exit_code == 130
    assert candidates(home) == []
    status = ask(home, lambda client: client.status())
    assert status is not None
    assert (status.model_version, status.worker_state) == (1, "stopped")


def test_a_query_goes_on_when_a_teacher_is_killed(cluster: LocalCluster) -> None:
    """A teacher that vanishes in the middle is left out with a reason, and another one teaches."""
    cluster.warm_worker("node-2").suspend()
    with WatchedQuery(
        cluster.home("node-1"), "--classes", cluster.taught_by_both("node-1"), "--trial"
    ) as query:
        query.wait_for("probe")
        cluster.kill("node-2")
        ended = query.end()
    assert ended.exit_code == 0
    teachers = {teacher["name"]: teacher for teacher in ended.data["teachers"]}
    assert (teachers["node-2"]["used"], teachers["node-3"]["used"]) == (False, True)
    assert teachers["node-2"]["reason"]


def test_a_query_goes_on_when_its_worker_is_killed(cluster: LocalCluster) -> None:
    """Another worker takes the step once more; the daemon stays, and nothing is left behind."""
    home, daemon = cluster.home("node-1"), cluster.daemons["node-1"].pid
    with WatchedQuery(home, "--classes", cluster.taught_by_both("node-1"), "--trial") as query:
        query.wait_for("phase1", done=1)
        cluster.worker("node-1").kill()
        ended = query.end()
    assert (ended.exit_code, ended.data["outcome"]) == (0, "accepted")
    assert candidates(home) == []
    assert cluster.daemons["node-1"].poll() is None
    assert cluster.daemons["node-1"].pid == daemon


def test_a_stopped_daemon_says_goodbye(cluster: LocalCluster) -> None:
    """On SIGTERM a node tells its peers before its silence would, exits 0, and leaves no socket or worker."""
    home = cluster.home("node-3")
    cluster.warm_worker("node-3")

    def has_left() -> bool:
        answer = ask(cluster.home("node-1"), lambda client: client.peers())
        assert answer is not None
        return [peer.state for peer in answer.peers if peer.node_name == "node-3"] != ["live"]

    cluster.daemons["node-3"].send_signal(signal.SIGTERM)
    wait_until(has_left, "node-1 sees node-3 leave", seconds=SILENT_AFTER_SECONDS - 1)
    assert cluster.daemons["node-3"].wait(WAIT_SECONDS) == 0
    assert not home.control_socket.exists()
    assert processes_below(home.root) == []
    with closing(Journal(home.database)) as journal:
        assert sorted(record.node_name for record in journal.known_peers()) == ["node-1", "node-2"]
