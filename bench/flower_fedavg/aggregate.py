"""One round of Flower's FedAvg: `python aggregate.py FOLDER`, run by a Python that has Flower.

FOLDER holds weights.json, numbers of samples, and 0.npz, 1.npz, ..., each node's arrays; writes average.npz
and version.txt.
"""

import json
import sys
from pathlib import Path

import flwr
import numpy as np
from flwr.common import Code, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.server.strategy import FedAvg


def main() -> None:
    """Aggregate what the nodes made."""
    folder = Path(sys.argv[1])
    results = []
    names: list[str] = []
    for number, samples in enumerate(json.loads((folder / "weights.json").read_text())):
        with np.load(folder / f"{number}.npz", allow_pickle=False) as arrays:
            names = list(arrays)
            parameters = ndarrays_to_parameters([arrays[name] for name in names])
        # The strategy looks at the results alone, not at the clients that they come from.
        results.append((None, FitRes(Status(Code.OK, ""), parameters, int(samples), {})))
    merged, _ = FedAvg(fit_metrics_aggregation_fn=lambda _: {}).aggregate_fit(1, results, [])
    np.savez(folder / "average.npz", **dict(zip(names, parameters_to_ndarrays(merged), strict=True)))
    (folder / "version.txt").write_text(flwr.__version__)


if __name__ == "__main__":
    main()
