"""The oracle: one query's training with the teachers' real data, which no federation may have.

`python -m qkt_node.cluster.oracle FOLDER NODE CLASSES SEED` prints accuracies on the evaluation data
as one JSON object. It is what a query is measured against, and runs in a process of its own: torch.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from qkt_node.cluster.layout import ClusterFolder
from qkt_node.config import load_config
from qkt_node.model_files import version_file
from qkt_node.worker.local_data import load_local_data
from qkt_p2p.distillation import LearningSettings, distill, oracle_responses, refine
from qkt_p2p.errors import ConfigError
from qkt_p2p.models import class_accuracies, classifier_from_arrays
from qkt_p2p.seeds import derived_seed
from qkt_p2p.store.checkpoints import load_checkpoint
from qkt_p2p.types import ClassName

if TYPE_CHECKING:
    from qkt_node.worker.local_data import LocalData


def oracle_accuracies(
    folder: ClusterFolder, name: str, *, classes: tuple[ClassName, ...], seed: int
) -> dict[ClassName, float]:
    """Return accuracies on the asker's own and the query classes after training on everybody's real data.

    The student, its settings and its seeds are those of the query; only the responses are real.
    """
    cluster = folder.load()
    data = {node.name: _local_data(folder, node.name) for node in cluster.nodes}
    own = data[name]
    if own.evaluation is None:
        raise ConfigError(f"{name} has no evaluation data", fix="set [data] evaluation in its node.toml")
    home = folder.home(name)
    before = classifier_from_arrays(
        *load_checkpoint(home.models / version_file(1)), own=load_config(home.config_file).model.own
    )
    wanted = {*classes, *own.train.present}
    responses = oracle_responses({node: each.train for node, each in data.items()}, wanted)
    settings = LearningSettings()
    student = before.grown(classes, seed=derived_seed(seed, "grow"))
    student = distill(
        student, own.train, responses, settings, seed=derived_seed(seed, "phase1"), progress=_unheard
    )
    student = refine(
        student, before, own.train, responses, settings, seed=derived_seed(seed, "phase2"), progress=_unheard
    )
    return class_accuracies(student, own.evaluation, among=student.trained)


def _local_data(folder: ClusterFolder, name: str) -> LocalData:
    home = folder.home(name)
    return load_local_data(load_config(home.config_file), home.root)


def _unheard(done: float, total: float, message: str) -> None:
    del done, total, message


def main() -> None:
    """Print the oracle of one query."""
    root, name, classes, seed = sys.argv[1:]
    torch.set_num_threads(1)
    query = tuple(ClassName(each) for each in classes.split(","))
    json.dump(oracle_accuracies(ClusterFolder(Path(root)), name, classes=query, seed=int(seed)), sys.stdout)


if __name__ == "__main__":
    main()
