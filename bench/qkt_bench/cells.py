"""One query answered by one method, as a JSON file: what is finished survives an interruption."""

from __future__ import annotations

import json
from dataclasses import asdict
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final

from qkt_bench.federation import HOLDOUT, LOCAL_SAMPLES
from qkt_bench.measures import mask_quality, rank_correlation
from qkt_bench.plan import key_of
from qkt_bench.predictors import accuracies
from qkt_bench.queries import TEACHER_SAMPLES
from qkt_p2p.files import replace_file

if TYPE_CHECKING:
    from pathlib import Path

    from qkt_bench.federation import Federation, Say
    from qkt_bench.methods import Method, MethodResult
    from qkt_bench.queries import BenchQuery

Figures = dict[str, Any]

_FORMAT: Final = 1
"""Changes when cells of earlier runs must not be read."""


class Cells:
    """The cells below a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def figures(self, federation: Federation, query: BenchQuery, method: Method, *, say: Say) -> Figures:
        """Return a cell's figures: those on disk if its whole configuration is the same, else new ones."""
        path = self._folder / f"{method.name}-{cell_key(federation, query, method)}.json"
        if not path.exists():
            figures = measured(federation, query, method.run(federation, query, progress=say))
            named = {"seed": federation.seed, "method": method.name, **figures}
            replace_file(path, json.dumps(named, indent=1).encode())
        found: Figures = json.loads(path.read_text())
        return found


def cell_key(federation: Federation, query: BenchQuery, method: Method) -> str:
    """Return a name for everything that the cell depends on."""
    rules = [_FORMAT, LOCAL_SAMPLES, TEACHER_SAMPLES, HOLDOUT]
    built = [federation.plan.described(), federation.fingerprint, federation.reference().fingerprint]
    return key_of(rules, built, federation.seed, query, dict(method.configuration))


def measured(federation: Federation, query: BenchQuery, result: MethodResult) -> Figures:
    """Return everything there is to say of one result, as JSON; accuracies are on test data."""
    local = federation.node(query.asker).local
    among = (*local, *query.classes)
    if result.predictor is None:
        found = {name: result.accuracy[name] for name in among}
    else:
        found = accuracies(result.predictor, federation.test, among)
    return {
        "query": asdict(query),
        "local": list(local),
        "outcome": result.outcome,
        "accuracy": found,
        "query_accuracy": fmean(found[name] for name in query.classes),
        "own_accuracy": fmean(found[name] for name in local),
        "both_accuracy": fmean(found.values()),
        "bytes_sent": result.bytes_sent,
        "bytes_received": result.bytes_received,
        "bytes_federation": result.bytes_federation,
        "seconds": round(result.seconds, 3),
        "chosen": dict(result.chosen),
        "curve": [asdict(point) for point in result.curve],
        **_evidence(federation, result),
    }


def _evidence(federation: Federation, result: MethodResult) -> Figures:
    if not result.evidence:
        return {"evidence": {}, "masks": None, "ranks": None}
    nodes = {node.name: node for node in federation.nodes if node.name in result.evidence}
    counts = {name: node.train.counts for name, node in nodes.items()}
    return {
        "evidence": {
            node: {name: round(e, 4) for name, e in values.items()}
            for node, values in result.evidence.items()
        },
        "masks": asdict(mask_quality(result.evidence, {name: node.local for name, node in nodes.items()})),
        "ranks": asdict(rank_correlation(result.evidence, counts)),
    }
