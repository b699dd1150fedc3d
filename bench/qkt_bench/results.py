"""docs/results.md from the tables' JSON: `python -m qkt_bench.results FOLDER docs/results.md`.

The page's text above the marker stays; what is below is made anew.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from qkt_bench.tables import EXPLANATION, markdown
from qkt_bench.targets import TARGETS_EXPLANATION, best_baseline, percent, targets
from qkt_p2p.files import replace_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Table = Mapping[str, Any]

MARKER: Final = "<!-- Made by qkt_bench.results from bench/results/tables; edit nothing below. -->"

_COLUMNS: Final = (
    *("table", "gain", "query, own, both", "best baseline, both"),
    *("to the oracle: query, own", "Light: both, bytes, seconds", "FedAvg's bytes: query, both"),
    *("masks F1", "ranks over nodes, classes"),
)


def overview(tables: Sequence[Table]) -> str:
    """Return one row for each table: QKT against what it has to beat."""
    rows = [f"| {' | '.join(_COLUMNS)} |", f"|{'---|' * len(_COLUMNS)}"]
    rows += [f"| {' | '.join(_row(table))} |" for table in tables if "qkt" in table["methods"]]
    return "\n".join(rows)


def _row(table: Table) -> list[str]:
    methods = table["methods"]
    qkt = methods["qkt"]
    best = best_baseline(table)
    ratios = [qkt[key]["least_ratio"] for key in ("fedavg_bytes", "fedavg_bytes_both") if qkt[key]]
    return [
        table["label"],
        f"{_mean(qkt, 'gain'):+.1f}",
        ", ".join(f"{_mean(qkt, key):.1f}" for key in ("query_accuracy", "own_accuracy", "both_accuracy")),
        f"{best} {percent(table, best, 'both_accuracy'):.1f}",
        _difference(qkt, methods.get("oracle"), "query_accuracy", "own_accuracy"),
        _light(qkt, methods.get("qkt-light")),
        f"at least {', '.join(f'{ratio:.0f}' for ratio in ratios)} times" if ratios else "-",
        f"{qkt['masks_f1']['mean']:.3f}",
        ", ".join(
            f"{qkt[key]['mean']:.2f}" for key in ("ranks_over_nodes", "ranks_over_classes") if qkt[key]
        ),
    ]


def _light(qkt: Table, light: Table | None) -> str:
    if light is None:
        return "-"
    shares = ", ".join(f"{100 * light[key]['mean'] / qkt[key]['mean']:.0f} %" for key in ("bytes", "seconds"))
    return f"{_difference(light, qkt, 'both_accuracy')}, {shares}"


def _difference(one: Table, other: Table | None, *keys: str) -> str:
    if other is None:
        return "-"
    return ", ".join(f"{_mean(one, key) - _mean(other, key):+.1f}" for key in keys)


def _mean(figures: Table, key: str) -> float:
    return float(100 * figures[key]["mean"])


def write_page(folder: Path, page: Path) -> None:
    """Make what is below the page's marker anew from the tables in `folder`."""
    tables = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    above = page.read_text().partition(MARKER)[0]
    parts = [MARKER, "## Targets", TARGETS_EXPLANATION, targets(tables)]
    parts += ["## All tables at a glance", overview(tables), "## Tables", EXPLANATION]
    parts += [markdown(table, explained=False) for table in tables]
    replace_file(page, (above + "\n\n".join(parts).rstrip() + "\n").encode(), mode=0o644)


if __name__ == "__main__":
    write_page(*map(Path, sys.argv[1:]))
