"""This node's private data, as node.toml chooses it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qkt_p2p.datasets import LabelledData, load_dataset, split_holdout
from qkt_p2p.errors import ConfigError
from qkt_p2p.seeds import derived_seed

if TYPE_CHECKING:
    from pathlib import Path

    from qkt_node.settings import NodeConfig


@dataclass(frozen=True, slots=True)
class LocalData:
    """What is trained on, what is held out of it, and what is only ever measured on.

    `fingerprint` changes when the training data do.
    """

    train: LabelledData
    holdout: LabelledData
    evaluation: LabelledData | None
    fingerprint: str


def load_local_data(config: NodeConfig, root: Path) -> LocalData:
    """Load the data of [data], and split it by the node's seed; raises ConfigError."""
    section, seed = config.data, config.node.seed
    source = load_dataset(section.source, root=root).train
    classes = section.classes or source.present
    chosen = source.restrict(
        classes,  # type: ignore[arg-type]
        section.samples_per_class or None,
        seed=derived_seed(seed, "samples"),
    )
    if missing := [name for name in classes if name not in chosen.present]:
        raise ConfigError(
            f"{section.source} holds no sample of {', '.join(missing)}",
            fix=f"set [data] classes among {', '.join(source.present)}",
        )
    train, holdout = split_holdout(chosen, section.holdout, seed=derived_seed(seed, "holdout"))
    evaluation = load_dataset(section.evaluation, root=root).test if section.evaluation else None
    if evaluation is not None and evaluation.input_shape != train.input_shape:
        raise ConfigError(
            f"[data] evaluation has inputs of {evaluation.input_shape}, source of {train.input_shape}",
            fix="bring both to one size",
        )
    digest = hashlib.sha256(np.ascontiguousarray(train.inputs).data)
    digest.update(np.ascontiguousarray(train.labels).data)
    return LocalData(train, holdout, evaluation, digest.hexdigest())
