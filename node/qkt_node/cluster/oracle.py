"""The oracle: one query's training with the teachers' real data, which no federation may have.

`python -m qkt_node.cluster.oracle FOLDER NODE CLASSES MEDIUM SEED` prints accuracies on the evaluation data
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
from qkt_p2p.distillation import LearningSettings, oracle_responses
from qkt_p2p.errors import ConfigError
from qkt_p2p.lesson import Lesson
from qkt_p2p.models import class_accuracies, classifier_from_arrays
from qkt_p2p.own_samples import Asker
from qkt_p2p.store.checkpoints import load_checkpoint
from qkt_p2p.synthesis.own_stem import own_stem
from qkt_p2p.teacher import Teacher, TeacherSettings
from qkt_p2p.types import ClassName, Query, QueryId

if TYPE_CHECKING:
    from qkt_node.worker.local_data import LocalData


def oracle_accuracies(
    folder: ClusterFolder, name: str, *, classes: tuple[ClassName, ...], medium: str, seed: int
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
        *load_checkpoint(home.models / version_file(1)), own=load_config(home.config_file, {}).model.own
    )
    wanted = {*classes, *own.train.present}
    others = {node: each.train for node, each in data.items() if node != name}
    query = Query(QueryId("0" * 16), classes, medium, seed, deadline_seconds=0.0, force=True)
    teacher = Teacher(before, own.train, model_version=1, settings=TeacherSettings(), cache={})
    stem = own_stem(before) if medium == "features" else b""
    asker = Asker(before, own.train, own.holdout, teacher, stem)
    # Real samples in place of all synthetic ones, the asker's own included: style never tells the class.
    mine = oracle_responses({name: own.train}, own.train.present)
    lesson = Lesson(asker, query, medium, LearningSettings(), own=mine)
    real = [lesson.own.behind_stem(response) for response in oracle_responses(others, wanted)]
    student = lesson.phase2(lesson.phase1(real, _unheard), real, _unheard)
    return class_accuracies(student, own.evaluation, among=student.trained)


def _local_data(folder: ClusterFolder, name: str) -> LocalData:
    home = folder.home(name)
    return load_local_data(load_config(home.config_file, {}), home.root)


def _unheard(done: float, total: float, message: str) -> None:
    del done, total, message


def main() -> None:
    """Print the oracle of one query."""
    root, name, classes, medium, seed = sys.argv[1:]
    torch.set_num_threads(1)
    query = tuple(ClassName(each) for each in classes.split(","))
    found = oracle_accuracies(ClusterFolder(Path(root)), name, classes=query, medium=medium, seed=int(seed))
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
