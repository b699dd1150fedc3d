r"""Whether real data teach more than recipes where test images resemble other nodes' training images.

    python bench/nearness/measure.py --table bench/results/tables/brain_tumor_mri-pathological-2-single.json \
        --data brain_tumor_mri.npz --out bench/results/nearness.json

The queries of that table are asked again, of QKT and of the oracle. Test images of own classes, and those of
query classes, are put into quarters by how far the nearest training image of another node is, of any class
that is predicted among; distances are root mean squares over the numbers of an image. `--out` adds to a file.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors

from qkt_bench.federation import Federations
from qkt_bench.inprocess import Oracle, Qkt
from qkt_bench.plan import FederationPlan, Partition, QueryPlan
from qkt_bench.queries import make_queries
from qkt_node.log import configure_logging
from qkt_node.versions import versions

if TYPE_CHECKING:
    import numpy.typing as npt

    from qkt_bench.federation import Federation
    from qkt_bench.methods import Method
    from qkt_bench.queries import BenchQuery
    from qkt_p2p.datasets import LabelledData
    from qkt_p2p.datasets.labelled import Inputs
    from qkt_p2p.types import ClassName

METHODS: Final[tuple[Method, ...]] = (Qkt(), Oracle())
QUARTERS: Final = 4


def main() -> int:
    """Measure, print, and store where asked for."""
    options = _parsed()
    configure_logging("auto", "error")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    table = json.loads(options.table.read_text())
    plan = FederationPlan(
        **{
            **table["plan"]["federation"],
            "source": options.data,
            "partition": Partition(**table["plan"]["federation"]["partition"]),
        }
    )
    queries = QueryPlan(**table["plan"]["queries"])
    samples: dict[str, list[npt.NDArray[np.float64]]] = {"query": [], "own": []}
    with TemporaryDirectory(prefix="qkt-bench-") as folder:
        seeds = table["plan"]["seeds"]
        federations = Federations(plan, Path(folder), reference_seed=seeds[0], say=lambda _: None)
        for federation in map(federations.of, seeds):
            for query in make_queries(federation, queries):
                for kind, found in _measured(federation, query).items():
                    samples[kind].append(found)
    figures = {kind: _quarters(np.concatenate(found)) for kind, found in samples.items()}
    _print(table["label"], figures)
    if options.out is not None:
        stored = json.loads(options.out.read_text()) if options.out.exists() else {"tables": {}}
        stored["tables"][table["label"]] = figures
        stored["versions"] = versions()
        options.out.write_text(f"{json.dumps(stored, indent=2)}\n")
    return 0


def _measured(federation: Federation, query: BenchQuery) -> dict[str, npt.NDArray[np.float64]]:
    """Return [n, 3] of the test samples of each kind of class: distance, and whether a method is right."""
    asker = federation.node(query.asker)
    among = (*asker.local, *query.classes)
    test = federation.test.restrict(among, seed=0)
    truth = np.array(test.classes)[test.labels]
    others = [node.train.restrict(among, seed=0).inputs for node in federation.others(asker.name)]
    nearest = _nearest(test.inputs, np.concatenate(others))
    right = [
        np.array(among)[_scores(method, federation, query, test, among).argmax(1).numpy()] == truth
        for method in METHODS
    ]
    columns = np.stack([nearest, *right], axis=1)
    asked = np.isin(truth, query.classes)
    return {"query": columns[asked], "own": columns[~asked]}


def _scores(
    method: Method,
    federation: Federation,
    query: BenchQuery,
    test: LabelledData,
    among: tuple[ClassName, ...],
) -> torch.Tensor:
    predictor = method.run(federation, query, progress=lambda _: None).predictor
    assert predictor is not None, "both methods leave a classifier behind"
    return predictor.scores(torch.from_numpy(test.inputs), among)


def _nearest(test: Inputs, train: Inputs) -> npt.NDArray[np.float64]:
    """Return the distance [n] of each test input from the nearest training one."""
    ours, theirs = (inputs.reshape(len(inputs), -1) for inputs in (test, train))
    distances, _ = NearestNeighbors(n_neighbors=1).fit(theirs).kneighbors(ours)
    nearest: npt.NDArray[np.float64] = distances[:, 0] / np.sqrt(ours.shape[1])
    return nearest


def _quarters(samples: npt.NDArray[np.float64]) -> list[dict[str, Any]]:
    """Return the figures of each quarter of samples [n, 3], the nearest first; accuracies in percent."""
    parts = np.array_split(samples[samples[:, 0].argsort(kind="stable")], QUARTERS)
    return [
        {
            "samples": len(part),
            "distance": round(fmean(part[:, 0]), 4),
            **{
                method.name: round(100 * fmean(part[:, column]), 1)
                for column, method in enumerate(METHODS, start=1)
            },
        }
        for part in parts
    ]


def _print(label: str, figures: dict[str, list[dict[str, Any]]]) -> None:
    for kind, quarters in figures.items():
        for number, quarter in enumerate(quarters, start=1):
            told = ", ".join(f"{name} {value}" for name, value in quarter.items())
            sys.stdout.write(f"{label}, {kind} classes, quarter {number}: {told}\n")


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--table", type=Path, required=True, help="JSON of a table, for its plan")
    parser.add_argument("--data", required=True, help="where the table's data set is")
    parser.add_argument("--out", type=Path, help="JSON file that the figures are added to")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
