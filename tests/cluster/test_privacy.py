"""A budget between real daemons: what is learned of it, what is spent, and what is refused when it is."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from qkt_node.cluster.layout import ClusterFolder
from tests.cluster.conftest import PLAN
from tests.cluster.local_cluster import LocalCluster, qkt, running_cluster

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def private_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Three nodes of which each class has a budget for one release."""
    folder = ClusterFolder((tmp_path_factory.mktemp("private") / "cluster").resolve())
    plan = replace(PLAN, samples_per_class=0, epsilon=2.0)
    with running_cluster(folder, plan) as cluster:
        yield cluster


def ledger(cluster: LocalCluster, name: str) -> dict[str, int]:
    """Return how often each class of a node was released."""
    answer = qkt("budget", "--home", cluster.home(name).root)
    assert answer.exit_code == 0
    return {each["class"]: each["releases"] for each in answer.data["classes"]}


def test_a_class_is_learned_within_the_budget_and_released_once(private_cluster: LocalCluster) -> None:
    """The asker is told what its peers spent, each ledger agrees, and another asker costs nothing more."""
    cluster = private_cluster
    asked = cluster.taught_by_both("node-1")
    answer = cluster.query("node-1", "--classes", asked, "--medium", "moments")
    assert answer.exit_code == 0, answer.envelope
    assert answer.data["accuracy"][asked]["after"] > 0.6
    used = {each["name"]: each["peer"] for each in answer.data["teachers"] if each["used"]}
    assert answer.data["epsilon_spent"] == dict.fromkeys(used.values(), 2.0)
    before = {name: ledger(cluster, name) for name in used}
    assert all(counts[asked] == 1 for counts in before.values())
    again = cluster.query("node-1", "--classes", asked, "--medium", "moments", "--seed", 7)
    assert again.exit_code == 0
    assert {name: ledger(cluster, name) for name in used} == before
    report = json.loads((cluster.home("node-1").reports / f"{answer.data['query_id']}.json").read_text())
    assert report["epsilon_spent"] == answer.data["epsilon_spent"]


def test_a_spent_budget_ends_the_query_with_its_own_code(private_cluster: LocalCluster) -> None:
    """Another space would be another release, and there is none left; other media are not even offered."""
    cluster = private_cluster
    asked = cluster.taught_by_both("node-1")
    assert cluster.query("node-1", "--classes", asked, "--medium", "moments").exit_code == 0
    answer = cluster.query("node-1", "--classes", asked, "--medium", "features")
    assert (answer.exit_code, answer.error["code"]) == (9, "budget")
    assert "privacy budget" in answer.error["message"]
    assert "qkt-node budget" in answer.error["fix"]
    assert cluster.query("node-1", "--classes", asked, "--medium", "inversion").exit_code == 6
