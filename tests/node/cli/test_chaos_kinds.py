"""Which faults `cluster chaos` draws, and what it says of those that this machine lacks something for."""

from __future__ import annotations

from pathlib import Path

import pytest

from qkt_node.cli.cluster_chaos import _kinds, cluster_chaos
from qkt_node.cli.output import Format, Output
from qkt_node.cluster.chaos.schedule import KINDS
from qkt_p2p.errors import UsageError


@pytest.fixture
def missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without libfaketime."""
    path = tmp_path / "libfaketime.so.1"
    monkeypatch.setattr("qkt_node.cluster.chaos.signals.FAKETIME", path)
    return path


def test_all_kinds_where_everything_is_there(missing: Path) -> None:
    """Nothing is left out, nor where only some were asked for."""
    missing.touch()
    assert _kinds("") == (list(KINDS), {})
    assert _kinds("kill, clock-skew") == (["kill", "clock-skew"], {})


def test_what_is_left_out_is_said(missing: Path) -> None:
    """By default the rest is tried; who asks for what is not possible is told what to install."""
    kinds, left_out = _kinds("")
    assert left_out == {"clock-skew": "libfaketime"}
    assert kinds == [name for name in KINDS if name != "clock-skew"]
    assert _kinds("kill") == (["kill"], {})
    with pytest.raises(UsageError, match="clock-skew is not possible here") as refused:
        _kinds("kill,clock-skew")
    assert "apt-get install libfaketime" in refused.value.fix


def test_the_list_says_it_too(missing: Path) -> None:
    """Loudly for people, and as data for machines."""
    answer = cluster_chaos(Output("cluster chaos", Format.JSON), faults="list")
    assert answer.data["left_out"] == {"clock-skew": "libfaketime"}
    assert answer.shown[-1] == (
        "NOT TRIED: clock-skew, which needs libfaketime: "
        "apt-get install libfaketime (Debian and Ubuntu), dnf install libfaketime (Fedora)"
    )
