"""`cluster chaos` on real daemons: faults befall them, rules are checked, nothing is left running."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.cluster.local_cluster import processes_below, qkt

if TYPE_CHECKING:
    from pathlib import Path


def test_a_lie_that_is_found_out(tmp_path: Path) -> None:
    """The liar is left out with its reason, the query is accepted, and what came of it is written down."""
    out, folder = tmp_path / "soak.json", tmp_path / "chaos"
    answer = qkt(
        *("cluster", "chaos", "--dir", folder, "--out", out, "--nodes", 3),
        *("--schedules", 1, "--seed", 43, "--faults", "corrupt-chunk"),
    )
    assert answer.exit_code == 0, answer.envelope
    assert processes_below(folder) == []
    assert json.loads(out.read_text()) == answer.data
    (schedule,) = answer.data["schedules"]
    assert (schedule["seed"], schedule["end"], schedule["problems"]) == (43, "accepted", [])
    assert schedule["faults"] == ["discover: corrupt-chunk of node-2 (chunk 0)"]
    assert schedule["teachers"]["node-3"] == "used"
    assert "is not what was offered" in schedule["teachers"]["node-2"]
    assert {leak["node"] for leak in answer.data["leaks"]} == {"node-2", "node-3"}


def test_what_cannot_be_asked_for(tmp_path: Path) -> None:
    """Unknown faults and senseless deadlines are refused before anything starts; `list` tells the faults."""
    asked = ("cluster", "chaos", "--dir", tmp_path / "chaos")
    unknown = qkt(*asked, "--faults", "earthquake")
    assert (unknown.exit_code, unknown.error["message"]) == (2, "unknown fault 'earthquake'")
    assert "kill,pause,partition" in unknown.error["fix"]
    assert qkt(*asked, "--deadline", "1s").exit_code == 2
    assert "SIGSTOP" in qkt(*asked, "--faults", "list").data["faults"]["pause"]
    assert not (tmp_path / "chaos").exists()
