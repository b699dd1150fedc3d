"""Queries that cannot be answered: each ends with its exit code, says why, and leaves the model as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.local_cluster import ask, log_events, qkt, running, wait_until

if TYPE_CHECKING:
    from qkt_node.home import Home
    from tests.cluster.local_cluster import LocalCluster


def test_a_class_that_nobody_knows(cluster: LocalCluster) -> None:
    """Exit code 6; the classes that peers know are listed, and a near one is suggested."""
    answer = cluster.query("node-1", "--classes", "3x")
    assert (answer.exit_code, answer.error["code"]) == (6, "unknown-class")
    known = answer.error["message"].partition("live peers know: ")[2].split(", ")
    others = {name for node in cluster.plan.nodes if node.name != "node-1" for name in node.classes}
    assert set(known) == others
    assert "'3'" in answer.error["fix"] or "3" not in others
    assert answer.data["outcome"] == "failed"
    assert answer.data["report"]


@pytest.mark.parametrize(
    ("options", "exit_code", "message"),
    [
        (["--classes", "OWN"], 2, "this node already knows"),
        (["--classes", ", ,"], 2, "names no class"),
        (["--classes", "x" * 65], 2, "is not a class name"),
        (["--classes", "7", "--deadline", "soon"], 2, "'soon' is not a duration"),
        (["--classes", "7", "--deadline", "25h"], 2, "is not between 0 and 86400 s"),
        (["--classes", "7", "--medium", "ether"], 2, "unknown medium 'ether'"),
        (["--classes", "LACKING", "--deadline", "0.01s"], 7, "the deadline of 0.01 s passed"),
    ],
)
def test_wrong_questions(cluster: LocalCluster, options: list[str], exit_code: int, message: str) -> None:
    """What the owner typed is told back with what to type instead."""
    names = {"OWN": cluster.plan.node("node-1").classes[0], "LACKING": cluster.plan.lacking("node-1")[0]}
    answer = cluster.query("node-1", *(names.get(option, option) for option in options))
    assert answer.exit_code == exit_code
    assert message in answer.error["message"]
    assert answer.error["fix"]


def test_an_own_class_with_force(cluster: LocalCluster) -> None:
    """With --force a class of the node's own data is learned like any other."""
    name = cluster.own_and_taught("node-1")
    answer = cluster.query("node-1", "--classes", name, "--force")
    assert answer.exit_code in {0, 8}
    assert answer.data["accuracy"][name]["asked"] is True


def test_no_daemon(home: Home) -> None:
    """Every verb that needs the daemon ends with 4 and the command that starts one."""
    for verb in (["query", "--classes", "7"], ["status"], ["peers"], ["queries"], ["models"]):
        answer = qkt(*verb, "--home", home.root)
        assert (answer.exit_code, answer.error["code"]) == (4, "not-running")
        assert answer.error["fix"] == f"qkt-node start --home {home.root}"


def test_no_peers_and_another_federation(cluster: LocalCluster, home: Home) -> None:
    """A node that only finds members of another federation says why in its log and to its owner."""
    address = cluster.plan.nodes[0].address
    with running(home, QKT_DISCOVERY_BOOTSTRAP=address):
        refused = wait_until(lambda: log_events(home, "bootstrap_unreachable"), "the peer is refused")[0]
        assert address in str(refused)
        assert "certificate" in refused["error"]
        answer = qkt("query", "--classes", "7", "--home", home.root)
        assert (answer.exit_code, answer.error["code"]) == (6, "unknown-class")
        message = answer.error["message"]
        assert message.startswith(f"there is no live peer to ask: {address}: ")
        assert "certificate" in message
        # The other side took nobody in.
        peers = ask(cluster.home("node-1"), lambda client: client.peers())
        assert peers is not None
        assert "hermit" not in {peer.node_name for peer in peers.peers}
