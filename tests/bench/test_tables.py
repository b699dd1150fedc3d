"""A whole table: resumed where it was interrupted, and the same in JSON, Markdown and on the command line."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from qkt_bench.cells import Cells, cell_key
from qkt_bench.federation import Federation, Say
from qkt_bench.methods import MethodResult
from qkt_bench.plan import BenchPlan, QueryPlan
from qkt_bench.predictors import Single
from qkt_bench.queries import BenchQuery, make_queries
from qkt_bench.run import run_table
from qkt_bench.shared_models import Rounds
from qkt_bench.tables import markdown, table_rows
from qkt_node.cli.main import main
from qkt_p2p.errors import CancelledError, UsageError
from tests.bench.conftest import small_plan

ROUNDS = Rounds(total=2, tuning=1, every=1)


@dataclass
class Counted:
    """A method that counts how often it runs."""

    name: str = "counted"
    setting: int = 1
    runs: list[int] = field(default_factory=list)

    @property
    def configuration(self) -> dict[str, int]:
        return {"setting": self.setting}

    def run(self, federation: Federation, query: BenchQuery, *, progress: Say) -> MethodResult:
        self.runs.append(query.number)
        return MethodResult(Single(federation.node(query.asker).classifier))


def plan(*methods: str) -> BenchPlan:
    return BenchPlan(small_plan(), QueryPlan("single", askers=1, per_asker=1), (0, 1), methods)


def unheard(done: float, total: float, message: str) -> None:
    del done, total, message


def test_a_cell_is_computed_once(federation: Federation, tmp_path: Path) -> None:
    """The same configuration is read from disk; any change of it is another cell."""
    query, cells, method = make_queries(federation, QueryPlan("single"))[0], Cells(tmp_path), Counted()
    first, second = (cells.figures(federation, query, method, say=lambda _: None) for _ in range(2))
    assert (first, method.runs) == (second, [0])
    keys = {
        cell_key(federation, query, method),
        cell_key(federation, query, Counted(setting=2)),
        cell_key(federation, replace(query, seed=1), method),
    }
    assert len(keys) == 3


def test_an_interrupted_table_goes_on_where_it_was(tmp_path: Path) -> None:
    """What was finished before the interruption is not touched again, and the result is the whole table."""

    def interrupt(done: float, total: float, message: str) -> None:
        if done >= 1:
            raise CancelledError("interrupted")

    with pytest.raises(CancelledError):
        run_table(plan("local", "ensemble"), tmp_path, rounds=ROUNDS, threads=1, progress=interrupt)
    finished = {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()}
    assert len(finished) == 1
    data = run_table(plan("local", "ensemble"), tmp_path, rounds=ROUNDS, threads=1, progress=unheard)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert len(data["cells"]) == 4


def test_json_and_markdown_agree(tmp_path: Path) -> None:
    """Both files say the same, and gains are over the baselines' average."""
    data = run_table(
        plan("local", "fedavg", "ensemble"), tmp_path, rounds=ROUNDS, threads=1, progress=unheard
    )
    stored = json.loads((tmp_path / "digits-pathological-3-single.json").read_text())
    text = (tmp_path / "digits-pathological-3-single.md").read_text()
    assert text == markdown(stored)
    assert all(f"| {' | '.join(row)} |" in text for row in table_rows(data))
    figures = data["methods"]
    means = [figures[name]["query_accuracy"]["mean"] for name in figures]
    assert data["baselines"]["mean"] == pytest.approx(sum(means) / 3)
    assert figures["fedavg"]["gain"]["mean"] == pytest.approx(means[1] - sum(means) / 3)
    assert len(figures["fedavg"]["query_accuracy"]["seeds"]) == 2


def test_unknown_methods_are_named(tmp_path: Path) -> None:
    """With those that there are."""
    with pytest.raises(UsageError, match="no method fedagv") as caught:
        run_table(plan("fedagv"), tmp_path, rounds=ROUNDS, threads=1, progress=unheard)
    assert "fedavg" in caught.value.fix


def test_the_command_line_writes_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One run from end to end: QKT learns the class, and its answer names the files that it wrote."""
    words = "bench tables --nodes 3 --model mlp --seeds 1 --askers 1 --queries-per-asker 1 --threads 1"
    arguments = [*words.split(), "--methods", "local,qkt", "--out", str(tmp_path), "--format", "json"]
    assert main(arguments) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)["data"]
    assert all(Path(path).is_file() for path in answer["files"])
    qkt = answer["methods"]["qkt"]
    assert qkt["query_accuracy"]["mean"] > 0.8
    assert qkt["masks_f1"]["mean"] == 1
    assert 0 < qkt["bytes"]["mean"] < 1_000_000


# Daemons outlive the object that started them, and are found again by their homes.
@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
def test_real_daemons_answer_alike(tmp_path: Path) -> None:
    """The same query through daemons that train their own models ends with the same accuracies and bytes."""
    asked = replace(plan("qkt"), seeds=(0,))
    data = run_table(asked, tmp_path, rounds=ROUNDS, threads=1, progress=unheard, daemons=True)
    assert data["daemons_difference"] == 0
    first, second = data["cells"]
    assert (first["method"], second["method"]) == ("qkt", "qkt-daemons")
    assert first["bytes_received"] == pytest.approx(second["bytes_received"], rel=0.02)
    assert first["masks"] == second["masks"]
