"""The federation that every method of a table meets: the same data, partition and first models."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np

from qkt_bench.cache import Cache
from qkt_bench.plan import key_of
from qkt_bench.sources import load_source
from qkt_p2p.datasets import LabelledData, dirichlet, pathological, split_holdout
from qkt_p2p.errors import ConfigError
from qkt_p2p.models import TrainingSettings, build_classifier, shift_reach, train_classifier
from qkt_p2p.seeds import derived_seed
from qkt_p2p.synthesis.release import MIN_RELEASE_SAMPLES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from qkt_bench.plan import FederationPlan
    from qkt_p2p.models import Classifier
    from qkt_p2p.types import Augmentation, ClassName

LOCAL_SAMPLES: Final = MIN_RELEASE_SAMPLES
"""A node has a class of its own from so many training samples on."""

HOLDOUT: Final = 0.1
"""Share of each class of a node that is kept for validation and for choosing hyperparameters."""

_ATTEMPTS: Final = 100

Say = Callable[[str], None]
"""Is told what is being worked on."""


@dataclass(frozen=True, slots=True, eq=False)
class BenchNode:
    """One node: what was dealt to it, what of that it trains on and holds out, and its first model."""

    name: str
    dealt: LabelledData
    train: LabelledData
    holdout: LabelledData
    classifier: Classifier

    @property
    def local(self) -> tuple[ClassName, ...]:
        """L_i: the classes of which there are at least LOCAL_SAMPLES training samples."""
        return local_classes(self.train)


@dataclass(frozen=True, slots=True, eq=False)
class Federation:
    """Nodes of one seed with `test` data that nobody was trained or tuned on.

    `fingerprint` is a digest of all data; `cache` keeps what is computed once for it. Hyperparameters are
    chosen once per table, on the validation data of `reference`, the federation of the first seed.
    """

    plan: FederationPlan
    seed: int
    nodes: tuple[BenchNode, ...]
    test: LabelledData
    fingerprint: str
    cache: Cache
    reference: Callable[[], Federation]

    @property
    def classes(self) -> tuple[ClassName, ...]:
        """The label space that all nodes share."""
        return self.test.classes

    @property
    def validation(self) -> LabelledData:
        """What all nodes hold out, together."""
        parts = [node.holdout for node in self.nodes]
        return LabelledData(
            np.concatenate([part.inputs for part in parts]),
            np.concatenate([part.labels for part in parts]),
            self.classes,
        )

    @property
    def augment(self) -> Augmentation:
        """What a baseline's training may choose; "none" for images too small to be shifted."""
        return self.plan.augment if shift_reach(*self.test.input_shape[-2:]) else "none"

    def node(self, name: str) -> BenchNode:
        """Return the node of that name."""
        return next(node for node in self.nodes if node.name == name)

    def others(self, name: str) -> tuple[BenchNode, ...]:
        """Return all nodes but that one."""
        return tuple(node for node in self.nodes if node.name != name)


class Federations:
    """The federations of one table by seed; models are kept below `folder`."""

    def __init__(self, plan: FederationPlan, folder: Path, *, reference_seed: int, say: Say) -> None:
        self._plan = plan
        self._folder = folder
        self._reference_seed = reference_seed
        self._say = say
        self.of = cache(self._build)

    def _build(self, seed: int) -> Federation:
        data = load_source(self._plan, seed=seed)
        parts = deal(data.train, self._plan, seed=seed)
        fingerprint = _digest([*parts, data.test])
        kept = Cache(self._folder / key_of(self._plan.described(), seed, fingerprint))
        nodes = []
        for number, part in enumerate(parts, start=1):
            self._say(f"seed {seed}: first model of node {number}")
            nodes.append(self._node(number, part, seed=seed, kept=kept))
        return Federation(
            self._plan,
            seed,
            nodes=tuple(nodes),
            test=data.test,
            fingerprint=fingerprint,
            cache=kept,
            reference=lambda: self.of(self._reference_seed),
        )

    def _node(self, number: int, part: LabelledData, *, seed: int, kept: Cache) -> BenchNode:
        name = f"node-{number}"
        node_seed = derived_seed(seed, "node", str(number))
        train, holdout = split_holdout(part, HOLDOUT, seed=derived_seed(node_seed, "holdout"))
        classifier = kept.classifier(
            name, lambda: first_model(train, self._plan.model, augment=self._plan.augment, seed=node_seed)
        )
        return BenchNode(name, part, train, holdout, classifier)


def first_model(data: LabelledData, architecture: str, *, augment: Augmentation, seed: int) -> Classifier:
    """Return a model as the product trains a new node's: on its own data, the head over all classes."""
    fresh = build_classifier(
        architecture,
        input_shape=data.input_shape,
        classes=data.classes,
        trained=local_classes(data),
        seed=derived_seed(seed, "build"),
    )
    return train_classifier(
        fresh,
        data,
        TrainingSettings(augment=augment),
        seed=derived_seed(seed, "train"),
        progress=lambda *_: None,
    )


def local_classes(data: LabelledData) -> tuple[ClassName, ...]:
    """Return the classes with at least LOCAL_SAMPLES samples."""
    return tuple(name for name, count in data.counts.items() if count >= LOCAL_SAMPLES)


def deal(data: LabelledData, plan: FederationPlan, *, seed: int) -> list[LabelledData]:
    """Return each node's share of the samples; every node has a class of its own after its holdout.

    Dirichlet shares are drawn again until that is so; raises ConfigError where it never is.
    """
    for attempt in range(_ATTEMPTS):
        indices = _indices(data, plan, seed=derived_seed(seed, "partition", str(attempt)))
        parts = [data.select(part) for part in indices]
        if all(max(part.counts.values()) * (1 - HOLDOUT) > LOCAL_SAMPLES for part in parts):
            return parts
    raise ConfigError(
        f"{plan.partition} leaves one of {plan.nodes} nodes without a class of {LOCAL_SAMPLES} samples",
        fix="use fewer --nodes or more --samples-per-class",
    )


def _indices(data: LabelledData, plan: FederationPlan, *, seed: int) -> Sequence[np.ndarray]:
    value = plan.partition.value
    if plan.partition.kind == "pathological":
        return pathological(data, nodes=plan.nodes, classes_per_node=int(value), seed=seed)
    return dirichlet(data, nodes=plan.nodes, alpha=value, seed=seed)


def _digest(parts: Sequence[LabelledData]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.inputs.tobytes())
        digest.update(part.labels.tobytes())
    return digest.hexdigest()
