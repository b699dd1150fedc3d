"""FedAvg of the bench against Flower's, on the same nodes, data, models and seeds.

    python -m venv /tmp/flower
    /tmp/flower/bin/pip install -r bench/flower_fedavg/requirements.txt
    python bench/flower_fedavg/compare.py --flower /tmp/flower/bin/python --out FILE

Local training is the bench's; in one run its own average merges the models, in the other that of Flower's
FedAvg strategy, and each goes on from what it merged.
"""

from __future__ import annotations

import argparse
import copy
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from qkt_bench.averaging import Averaging, average_rounds, average_states
from qkt_bench.federation import Federations
from qkt_bench.plan import FederationPlan, parse_partition
from qkt_bench.predictors import Single, accuracies
from qkt_bench.training import Recipe
from qkt_node.versions import versions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qkt_bench.averaging import Average, State
    from qkt_bench.federation import Federation
    from qkt_p2p.models import Classifier

PLAN: Final = FederationPlan("digits", 5, parse_partition("pathological:3"), "cnn")
SETTINGS: Final = Averaging(10, Recipe("sgd", 0.03, 1))
AGGREGATE: Final = Path(__file__).with_name("aggregate.py")


class FlowerAverage:
    """Merges models by a Python that has Flower."""

    def __init__(self, python: str) -> None:
        self._python = python
        self.version = ""

    def __call__(self, states: Sequence[Mapping[str, torch.Tensor]], weights: Sequence[float]) -> State:
        """Return Flower's average of the floating arrays; counters are the first's."""
        averaged = [name for name, tensor in states[0].items() if tensor.is_floating_point()]
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "weights.json").write_text(json.dumps(list(weights)))
            for number, state in enumerate(states):
                arrays: dict[str, Any] = {key: state[key].numpy() for key in averaged}
                np.savez(folder / f"{number}.npz", allow_pickle=False, **arrays)
            subprocess.run([self._python, str(AGGREGATE), str(folder)], check=True)
            with np.load(folder / "average.npz", allow_pickle=False) as found:
                merged = {key: torch.from_numpy(found[key]) for key in averaged}
            self.version = (folder / "version.txt").read_text()
        return {**states[0], **merged}


def main() -> None:
    """Compare, print, and store where asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--flower", required=True, help="a Python that has Flower")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="file to store the figures in")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    flower = FlowerAverage(options.flower)
    with tempfile.TemporaryDirectory() as models:
        federations = Federations(PLAN, Path(models), reference_seed=0, say=lambda _: None)
        compared = [compare(federations.of(seed), flower) for seed in range(options.seeds)]
    figures = {
        "flwr": flower.version,
        "rounds": SETTINGS.rounds,
        "seeds": compared,
        "versions": versions(),
    }
    text = json.dumps(figures, indent=2)
    sys.stdout.write(f"{text}\n")
    if options.out is not None:
        options.out.write_text(f"{text}\n")


def compare(federation: Federation, flower: FlowerAverage) -> dict[str, Any]:
    """Return both global accuracies on test data, and how far the parameters are apart after each round.

    Rounding makes the first round's difference; training can magnify it.
    """
    ours, theirs = (_rounds(federation, average) for average in (average_states, flower))
    return {
        "seed": federation.seed,
        "accuracy_ours": _accuracy(federation, ours[-1]),
        "accuracy_flower": _accuracy(federation, theirs[-1]),
        "largest_parameter": max(float(each.detach().abs().max()) for each in ours[-1].parameters()),
        "largest_difference": [_difference(one, other) for one, other in zip(ours, theirs, strict=True)],
    }


def _rounds(federation: Federation, average: Average) -> list[Classifier]:
    """Return the global model after each round."""
    models: list[Classifier] = []

    def keep(number: int, model: Classifier, seconds: float) -> None:
        del number, seconds
        models.append(copy.deepcopy(model))

    average_rounds(federation, SETTINGS, after_round=keep, average=average)
    return models


def _difference(one: Classifier, other: Classifier) -> float:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return max(float((first - second).abs().max()) for first, second in pairs)


def _accuracy(federation: Federation, model: Classifier) -> float:
    return fmean(accuracies(Single(model), federation.test, federation.classes).values())


if __name__ == "__main__":
    main()
