"""Queries in every medium, and light ones, between real daemons."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cluster.local_cluster import LocalCluster


@pytest.mark.parametrize("medium", ["features", "moments", "noise"])
def test_a_query_in_the_medium_that_its_owner_names(cluster: LocalCluster, medium: str) -> None:
    """Its JSON says so; answers to noise teach too little, and the gate says that."""
    asked = cluster.plan.lacking("node-1")[0]
    answer = cluster.query("node-1", "--classes", asked, "--medium", medium)
    assert answer.exit_code == (8 if medium == "noise" else 0), answer.envelope
    assert (answer.data["medium"], answer.data["mode"]) == (medium, "qkt")
    assert any(teacher["used"] for teacher in answer.data["teachers"])


def test_a_light_query_costs_less(cluster: LocalCluster) -> None:
    """Fewer bytes for the same class in the best medium; its JSON says that it was light."""
    asked = cluster.taught_by_both("node-1")
    usual = cluster.query("node-1", "--classes", asked)
    light = cluster.query("node-1", "--classes", asked, "--light")
    assert (usual.exit_code, light.exit_code) == (0, 0)
    assert (usual.data["mode"], usual.data["medium"]) == ("qkt", "moments")
    assert (light.data["mode"], light.data["medium"]) == ("light", "moments")
    assert light.data["bytes_received"] < usual.data["bytes_received"]
    used = [each for each in light.data["teachers"] if each["used"]]
    assert {name for each in used for name in each["classes"]} == {asked}


def test_the_weights_are_not_for_everybody(cluster: LocalCluster) -> None:
    """By default no node gives them away; the owner is told in what medium to ask instead."""
    asked = cluster.plan.lacking("node-1")[0]
    answer = cluster.query("node-1", "--classes", asked, "--medium", "weights")
    assert answer.exit_code == 6
    assert f"peers know {asked}, but do not teach in the medium weights" in answer.error["message"]
    assert answer.error["fix"] == "--medium features"
