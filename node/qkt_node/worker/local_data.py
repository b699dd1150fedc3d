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

    `fingerprint` changes when the training data do. `repeated` evaluation samples were left out, because the
    own data hold them as well.
    """

    train: LabelledData
    holdout: LabelledData
    evaluation: LabelledData | None
    fingerprint: str
    repeated: int = 0


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
    digest = hashlib.sha256(np.ascontiguousarray(train.inputs).data)
    digest.update(np.ascontiguousarray(train.labels).data)
    if not section.evaluation:
        return LocalData(train, holdout, None, digest.hexdigest())
    named = load_dataset(section.evaluation, root=root).test
    evaluation = _never_trained_on(named, chosen)
    return LocalData(train, holdout, evaluation, digest.hexdigest(), repeated=len(named) - len(evaluation))


def _never_trained_on(evaluation: LabelledData, own: LabelledData) -> LabelledData:
    """Return the evaluation samples that are not among the `own` ones; ConfigError where none is left."""
    if evaluation.input_shape != own.input_shape:
        raise ConfigError(
            f"[data] evaluation has inputs of {evaluation.input_shape}, source of {own.input_shape}",
            fix="bring both to one size",
        )
    unseen = evaluation.without(own)
    if not len(unseen):
        raise ConfigError(
            "every sample of [data] evaluation is in source as well, where it may have been trained on",
            fix="name other data as [data] evaluation, or none",
        )
    return unseen
