"""docs/results.md from the tables' JSON: `python -m qkt_bench.results FOLDER docs/results.md`.

The page's text above the marker stays; what is below is made anew.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from qkt_bench.comparisons import best_baseline, percent, points_over, share_of_light
from qkt_bench.tables import EXPLANATION, markdown
from qkt_bench.targets import TARGETS_EXPLANATION, targets
from qkt_p2p.files import replace_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qkt_bench.comparisons import Table

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
    qkt = table["methods"]["qkt"]
    best = best_baseline(table)
    accuracies = ("query_accuracy", "own_accuracy", "both_accuracy")
    ratios = [qkt[key]["least_ratio"] for key in ("fedavg_bytes", "fedavg_bytes_both") if qkt[key]]
    return [
        table["label"],
        f"{percent(table, 'qkt', 'gain'):+.1f}",
        ", ".join(f"{percent(table, 'qkt', key):.1f}" for key in accuracies),
        f"{best} {percent(table, best, 'both_accuracy'):.1f}",
        _shown("{:+.1f}", *(points_over(table, "qkt", "oracle", key) for key in accuracies[:2])),
        _light(table),
        f"at least {', '.join(f'{ratio:.0f}' for ratio in ratios)} times" if ratios else "-",
        f"{qkt['masks_f1']['mean']:.3f}",
        ", ".join(
            f"{qkt[key]['mean']:.2f}" for key in ("ranks_over_nodes", "ranks_over_classes") if qkt[key]
        ),
    ]


def _light(table: Table) -> str:
    points = _shown("{:+.1f}", points_over(table, "qkt-light", "qkt", "both_accuracy"))
    shares = _shown("{:.0f} %", *(share_of_light(table, key) for key in ("bytes", "seconds")))
    return "-" if points == "-" else f"{points}, {shares}"


def _shown(pattern: str, *figures: float | None) -> str:
    shown = [pattern.format(figure) for figure in figures if figure is not None]
    return ", ".join(shown) or "-"


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
