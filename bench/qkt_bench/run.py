"""A whole table: every seed's federation, its queries, and what each method makes of them."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import torch

from qkt_bench.cells import Cells
from qkt_bench.federation import Federations
from qkt_bench.plots import draw_plots
from qkt_bench.queries import make_queries
from qkt_bench.registry import chosen_methods
from qkt_bench.summary import summarized
from qkt_bench.tables import markdown
from qkt_node.versions import versions
from qkt_p2p.errors import ConfigError
from qkt_p2p.files import replace_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from qkt_bench.cells import Figures
    from qkt_bench.federation import Federation
    from qkt_bench.methods import Method
    from qkt_bench.plan import BenchPlan
    from qkt_bench.queries import BenchQuery
    from qkt_bench.shared_models import Rounds
    from qkt_p2p.types import ReportDone


SCHEMA: Final = "qkt-bench/1"


def run_table(
    plan: BenchPlan,
    out: Path,
    *,
    rounds: Rounds,
    threads: int,
    progress: ReportDone,
    daemons: bool = False,
) -> dict[str, Any]:
    """Fill `out` with the table's JSON, Markdown and plots, and return the JSON object.

    Cells that are there already are not computed again. With `daemons` QKT runs over real daemons, too.
    Raises ConfigError and UsageError for what
    cannot be done, and what `progress` raises.
    """
    methods = chosen_methods(plan.methods, rounds, daemons=daemons)
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
    torch.use_deterministic_algorithms(True)
    _make_folder(out)
    cells = Cells(out / "cells")
    found: list[Figures] = []
    described = []
    counter = _Counter(len(plan.seeds) * len(methods), progress)
    federations = Federations(plan.federation, out / "models", reference_seed=plan.seeds[0], say=counter.say)
    for seed in plan.seeds:
        federation = federations.of(seed)
        queries = make_queries(federation, plan.queries)
        described.append(_described(federation, queries))
        for method in methods:
            found += [_cell(cells, federation, query, method, counter) for query in queries]
            counter.count()
    data = {
        "schema": SCHEMA,
        "label": plan.label,
        "plan": plan.described(),
        "rounds": asdict(rounds),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        **summarized(found, [method.name for method in methods]),
        "federations": described,
        "cells": found,
    }
    replace_file(out / f"{plan.label}.json", f"{json.dumps(data, indent=1)}\n".encode(), mode=0o644)
    replace_file(out / f"{plan.label}.md", markdown(data).encode(), mode=0o644)
    draw_plots(data, out)
    return data


class _Counter:
    """Tells how many pairs of seed and method are done, and what is being worked on."""

    def __init__(self, total: int, progress: ReportDone) -> None:
        self._done = 0
        self._total = total
        self._progress = progress

    def say(self, text: str) -> None:
        self._progress(self._done, self._total, text)

    def count(self) -> None:
        self._done += 1


def _cell(
    cells: Cells, federation: Federation, query: BenchQuery, method: Method, counter: _Counter
) -> Figures:
    where = f"seed {federation.seed}, {method.name}, {query.asker} asks for {', '.join(query.classes)}"
    counter.say(where)
    return cells.figures(federation, query, method, say=lambda text: counter.say(f"{where}: {text}"))


def _described(federation: Federation, queries: Sequence[BenchQuery]) -> Figures:
    return {
        "seed": federation.seed,
        "nodes": {node.name: node.train.counts for node in federation.nodes},
        "test": federation.test.counts,
        "queries": [asdict(query) for query in queries],
    }


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make {folder}: {error.strerror}", fix="--out another folder") from error
