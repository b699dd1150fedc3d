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
from qkt_bench.results import MARKER, write_page
from qkt_bench.run import run_table
from qkt_bench.shared_models import Rounds
from qkt_bench.tables import markdown, table_rows
from qkt_bench.targets import TARGETS
from qkt_p2p.errors import CancelledError, UsageError
from tests.bench.conftest import small_plan
from tests.cluster.local_cluster import qkt

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
    stored = json.loads((tmp_path / "digits-mlp-pathological-3-single.json").read_text())
    text = (tmp_path / "digits-mlp-pathological-3-single.md").read_text()
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


def tables(out: Path, *options: str) -> dict[str, Any]:
    """Return the answer of one `bench tables` in a process of its own: it sets up logging, and daemons."""
    words = "bench tables --nodes 3 --model mlp --seeds 1 --askers 1 --queries-per-asker 1 --threads 1"
    answer = qkt(*words.split(), *options, "--out", out)
    assert answer.exit_code == 0, answer.envelope
    return answer.data


def test_the_command_line_writes_a_table(tmp_path: Path) -> None:
    """One run from end to end: QKT learns the class, and its answer names the files that it wrote."""
    answer = tables(tmp_path, "--methods", "local,qkt")
    assert all(Path(path).is_file() for path in answer["files"])
    found = answer["methods"]["qkt"]
    assert found["query_accuracy"]["mean"] > 0.8
    assert found["masks_f1"]["mean"] == 1
    assert 0 < found["bytes"]["mean"] < 1_000_000


# Daemons outlive the object that started them, and are found again by their homes.
@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
def test_real_daemons_answer_alike(tmp_path: Path) -> None:
    """The same query through daemons that train their own models ends with the same accuracies and bytes."""
    small = ("--samples-per-class", "40", "--test-samples", "20")
    answer = tables(tmp_path, "--methods", "qkt", "--daemons", *small)
    data = json.loads(Path(answer["files"][0]).read_text())
    assert data["daemons_difference"] == 0
    first, second = data["cells"]
    assert (first["method"], second["method"]) == ("qkt", "qkt-daemons")
    assert first["bytes_received"] == pytest.approx(second["bytes_received"], rel=0.02)
    assert first["masks"] == second["masks"]


def test_the_page_of_results_shows_every_table(tmp_path: Path) -> None:
    """What people wrote stays above the marker; tables below it are made anew."""
    spread = {"mean": 0.5, "sd": 0.1, "seeds": [0.4, 0.6]}
    accuracies = ("query_accuracy", "own_accuracy", "both_accuracy")
    figures = dict.fromkeys((*accuracies, "gain", "bytes", "seconds"), spread)
    none = dict.fromkeys(
        ("masks_f1", "ranks_over_nodes", "ranks_over_classes", "fedavg_bytes", "fedavg_bytes_both")
    )
    better = {
        **figures,
        **none,
        "both_accuracy": {**spread, "mean": 0.75},
        "masks_f1": {**spread, "mean": 1.0},
    }
    table: dict[str, Any] = {
        "label": "owls-pathological-3-single",
        "plan": {
            "federation": {
                "nodes": 5,
                "model": "cnn",
                "augment": "shifts",
                "partition": {"kind": "pathological", "value": 3.0},
                "samples_per_class": 10,
                "test_samples": 0,
            },
            "queries": {"kind": "single"},
            "seeds": [0, 1],
        },
        "methods": {
            "fedavg": {**figures, **none},
            "local": {**figures, **none},
            "qkt": better,
            "oracle": better,
        },
        "federations": [],
        "daemons_difference": None,
    }
    (tmp_path / "owls.json").write_text(json.dumps(table))
    page = tmp_path / "results.md"
    page.write_text(f"# By hand\n\n{MARKER}\n\nof another day\n")
    for _ in range(2):
        write_page(tmp_path, page)
    text = page.read_text()
    assert text.startswith("# By hand\n\n")
    assert "of another day" not in text
    assert text.count("### owls-pathological-3-single") == 1
    assert "| +50.0 | 50.0, 50.0, 75.0 | local 50.0 | +0.0, +0.0 | - | - | 1.000 |" in text
    assert "| own classes, over the oracle | at least -2.0 | +0.0 | 1 of 1 | - |" in text


def test_targets_name_the_tables_that_miss_them() -> None:
    """Those that miss by most come first; a table that lacks the methods does not count."""

    def table(label: str, qkt: float, light: float | None) -> dict[str, Any]:
        shares = {"qkt": qkt} if light is None else {"qkt": qkt, "qkt-light": light}
        return {"label": label, "methods": {name: {"bytes": {"mean": mean}} for name, mean in shares.items()}}

    tables = [table("a", 10, 6), table("b", 10, 5), table("c", 10, 8), table("d", 10, None)]
    light = next(target for target in TARGETS if "bytes" in target.name and target.at_most)
    assert light.row(tables) == (
        "| Light's share of QKT's bytes | at most 50 % | 63 % | 1 of 3 | c 80 %, a 60 % |"
    )
    assert light.row(tables[3:]).endswith("| - | - | - |")
