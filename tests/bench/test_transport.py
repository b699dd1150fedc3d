"""The bench of the transport: every way carries the whole load, and its figures are of what was carried."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qkt_bench.transport.load import MIB
from qkt_bench.transport.summary import summarized
from qkt_bench.transport.ways import BARE, FILES, WAYS
from tests.cluster.local_cluster import qkt


def transfer(way: str, seconds: float, *, peak: int = 0, pause: float = 0.0) -> dict[str, object]:
    end = {"processor_seconds": seconds, "peak_bytes": peak, "idle_bytes": MIB}
    return {
        "way": way,
        "megabytes": 1,
        "pause": pause,
        "seconds": seconds,
        "first_chunk_seconds": 0.1,
        "round_trip_seconds": 0.01,
        "asker": end,
        "teacher": end,
    }


def test_a_ratio_is_of_the_same_turn() -> None:
    """Whatever slows the machine down slows both ways of a turn; memory is that of the worst turn."""
    rows = summarized(
        [
            transfer("qkt", 2.0, peak=MIB),
            transfer(BARE, 1.0),
            transfer("qkt", 20.0, peak=3 * MIB),
            transfer(BARE, 10.0),
            transfer(FILES, 16.0),
            transfer("qkt", 5.0, pause=0.1),
        ]
    )["rows"]
    assert [row["ratio"] for row in rows] == [0.5, 1.0, 1.0 / 16.0, None]
    assert [row["ratio_of_files"] for row in rows] == [8.0, 16.0, 1.0, None]
    assert rows[0]["bytes_per_second"] == pytest.approx((MIB / 2 + MIB / 20) / 2)
    assert rows[0]["peak_bytes"] == {"teacher": 3 * MIB, "asker": 3 * MIB}


def test_every_way_carries_the_load(tmp_path: Path) -> None:
    """Each between two processes of its own; the table names them all."""
    out = tmp_path / "new" / "transport.json"
    sizes = "--megabytes 2 --repeats 1 --chunk-kib 256 --large-megabytes 3"
    answer = qkt("bench", "transport", *sizes.split(), "--out", out)
    assert answer.exit_code == 0, answer.envelope
    found = json.loads(out.read_text())
    assert found["rows"] == answer.data["rows"]
    usual = [row for row in found["rows"] if row["megabytes"] == 2]
    assert [row["way"] for row in usual] == list(WAYS)
    for row in found["rows"]:
        assert row["bytes_per_second"] > 0
        assert min(row["processor_seconds_per_gb"].values()) > 0
    slow = found["rows"][-1]
    assert slow["bytes_per_second"] < 256 * 1024 / found["plan"]["slow_seconds"]
    assert all(f"`{way}`" in out.with_suffix(".md").read_text() for way in WAYS)
