"""`cluster up/status/query/down/demo` as their user types them."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

from qkt_node.cluster.layout import ClusterFolder
from tests.cluster.local_cluster import WAIT_SECONDS, command, processes_below, qkt, wait_until
from tests.contract import QUERY_KEYS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.local_cluster import LocalCluster

SMALL = ("--nodes", "2", "--model", "mlp", "--samples-per-class", "40")
TWIN = (
    "--nodes",
    "3",
    "--classes-per-node",
    "5",
    "--model",
    "mlp",
    "--samples-per-class",
    "40",
    "--seed",
    "3",
)

STEPS = {"discover", "probe", "collect", "phase1", "phase2", "validate", "total"}


def test_the_demo(tmp_path: Path) -> None:
    """Five daemons; a class goes from 0 to at least 95 %, nothing is forgotten, and no process is left."""
    answer = qkt("cluster", "demo", "--dir", tmp_path / "demo")
    assert answer.exit_code == 0, answer.envelope
    data = answer.data
    assert data.keys() >= QUERY_KEYS
    assert data["seconds"].keys() == STEPS
    assert (data["outcome"], data["mode"], data["medium"], data["model_version"]) == (
        "accepted",
        "qkt",
        "moments",
        2,
    )
    asked, own = data["mean_query_accuracy"], data["mean_local_accuracy"]
    assert asked["before"] == 0.0
    assert asked["after"] >= 0.95
    assert own["after"] >= own["before"] - 0.02
    assert {item["measured_on"] for item in data["accuracy"].values()} == {"evaluation"}
    assert [name for name, item in data["accuracy"].items() if item["asked"]] == data["classes"]
    assert len(data["masks"]) == len(data["teachers"]) == 4
    used = [teacher for teacher in data["teachers"] if teacher["used"]]
    assert used
    assert sum(teacher["bytes"] for teacher in used) <= data["bytes_received"]
    check_report(tmp_path / "demo" / "node-1" / "reports", data)
    assert processes_below(tmp_path / "demo") == []


def check_report(folder: Path, data: dict[str, Any]) -> None:
    """The report's two files are there, and the JSON one says what the command line said."""
    page = folder / f"{data['query_id']}.html"
    assert data["report"] == str(page)
    assert page.read_text().startswith("<!doctype html>") or page.read_text().startswith("<!DOCTYPE html>")
    written = json.loads(page.with_suffix(".json").read_text())
    assert written["accuracy"] == data["accuracy"]


def outcome_by_name(data: dict[str, Any]) -> dict[str, Any]:
    """Return what a query found, with peers by name: their ids differ between two clusters."""
    names = data["peer_names"]
    teachers = {
        teacher["name"]: (teacher["classes"], teacher["samples"], teacher["weight"])
        for teacher in data["teachers"]
    }
    masks = {names[peer]: mask for peer, mask in data["masks"].items()}
    return {"accuracy": data["accuracy"], "teachers": teachers, "masks": masks, "outcome": data["outcome"]}


def test_two_clusters_of_one_seed(cluster: LocalCluster, tmp_path: Path) -> None:
    """Clusters made of one seed give the same masks and the same accuracies; each verb tells its part."""
    folder, plan = tmp_path / "twin", cluster.plan
    up = qkt("cluster", "up", "--dir", folder, *TWIN)
    try:
        assert up.exit_code == 0
        assert [tuple(node["classes"]) for node in up.data["nodes"]] == [node.classes for node in plan.nodes]
        asked = qkt("cluster", "query", "--dir", folder, "--node", "node-2")
        assert (asked.exit_code, asked.data["asker"]) == (0, "node-2")
        status = qkt("cluster", "status", "--dir", folder).data["nodes"]
        assert [node["state"] for node in status] == ["running"] * 3
        assert [node["live_peers"] for node in status] == [2] * 3
        assert [node["model_version"] for node in status] == [1, 2, 1]
        assert set(asked.data["classes"]) <= set(status[1]["known_classes"])
        own = ["--classes", cluster.own_and_taught("node-2")]
        again = ["cluster", "query", "--dir", folder, "--node", "node-2", *own]
        assert (qkt(*again).exit_code, qkt(*again, "--force").exit_code in {0, 8}) == (2, True)
    finally:
        down = qkt("cluster", "down", "--dir", folder)
    assert down.data == {"stopped": 3, "removed": True}
    assert not folder.exists()
    twin = cluster.query("node-2", "--classes", asked.data["classes"][0], "--seed", plan.query_seed)
    assert outcome_by_name(twin.data) == outcome_by_name(asked.data)


def test_down_after_the_command_line_was_killed(tmp_path: Path) -> None:
    """kill -9 of `cluster up` leaves daemons behind, and `cluster down` leaves nothing."""
    folder = tmp_path / "cut off"
    starting = subprocess.Popen(
        command("cluster", "up", "--dir", folder, *SMALL),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: len(processes_below(folder)) >= 2, "daemons are started")
    starting.kill()
    starting.wait(WAIT_SECONDS)
    down = qkt("cluster", "down", "--dir", folder)
    assert down.data["removed"] is True
    assert processes_below(folder) == []
    assert not folder.exists()


def test_a_command_line_that_is_told_to_stop(tmp_path: Path) -> None:
    """SIGTERM ends `cluster up` as Ctrl-C does: with 130, and without a process left behind."""
    folder = tmp_path / "stopped"
    # A shell has what it runs in the background ignore Ctrl-C.
    starting = subprocess.Popen(
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command("cluster", "up", "--dir", folder, *SMALL)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: len(processes_below(folder)) >= 2, "daemons are started")
    starting.terminate()
    assert starting.wait(WAIT_SECONDS) == 130
    assert processes_below(folder) == []
    assert qkt("cluster", "down", "--dir", folder).data == {"stopped": 0, "removed": True}


def test_down_after_making_it_was_cut_off(tmp_path: Path) -> None:
    """A folder that was marked as a cluster's, and no more, can be removed; any other is left alone."""
    folder = ClusterFolder(tmp_path / "begun")
    folder.claim()
    folder.evaluation.write_bytes(b"half of it")
    assert qkt("cluster", "status", "--dir", folder.root).exit_code == 3
    assert qkt("cluster", "down", "--dir", folder.root).data == {"stopped": 0, "removed": True}
    assert not folder.root.exists()
    (tmp_path / "letter").write_text("mine")
    assert qkt("cluster", "down", "--dir", tmp_path).data == {"stopped": 0, "removed": False}
    refused = qkt("cluster", "up", "--dir", tmp_path)
    assert (refused.exit_code, refused.error["code"]) == (3, "config")
    assert (tmp_path / "letter").read_text() == "mine"


def test_wrong_plans(tmp_path: Path) -> None:
    """A cluster that cannot be is refused before anything is written."""
    folder = tmp_path / "none"
    for options, exit_code in (
        (["--model", "rnn"], 2),
        (["--nodes", "1"], 2),
        (["--classes-per-node", "10"], 3),
        (["--source", "nowhere.npz"], 3),
    ):
        answer = qkt("cluster", "up", "--dir", folder, *options)
        assert answer.exit_code == exit_code
        assert answer.error["fix"]
    assert not folder.exists()


def test_nodes_of_several_architectures_teach_each_other(tmp_path: Path) -> None:
    """A node that runs `mlp` learns from those that run `cnn`, and by a light query, too."""
    small = ("--nodes", "3", "--classes-per-node", "4", "--model", "mlp,cnn,cnn", "--samples-per-class", "40")
    folder = ("--dir", tmp_path / "mixed")
    assert qkt("cluster", "up", *folder, *small).exit_code == 0
    try:
        light = qkt("cluster", "query", *folder, "--light")
        assert (light.data["outcome"], light.data["mode"]) == ("accepted", "light"), light.envelope
        other = qkt("cluster", "query", *folder, "--node", "node-2")
        assert other.data["outcome"] == "accepted", other.envelope
    finally:
        qkt("cluster", "down", *folder)
    assert light.data["mean_query_accuracy"]["after"] >= 0.8
    assert other.data["mean_query_accuracy"]["after"] >= 0.8
