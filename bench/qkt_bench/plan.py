"""What one bench is asked to do: data, partition, sizes, queries. Everything here names its results."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from qkt_p2p.errors import UsageError
from qkt_p2p.types import USUAL_AUGMENTATION

if TYPE_CHECKING:
    from qkt_p2p.types import Augmentation

Kind = Literal["pathological", "dirichlet"]
QueryKind = Literal["single", "multi"]

USUAL_MODEL: Final = "cnn"
"""Architecture of the nodes' models where nothing else is said."""

MULTI_CLASSES: Final = 3
"""A query for several classes asks for at most so many."""


@dataclass(frozen=True, slots=True)
class Partition:
    """How the samples are dealt out: K classes per node, or class shares from Dirichlet(alpha)."""

    kind: Kind
    value: float

    def __str__(self) -> str:
        return f"{self.kind}:{self.value:g}"


@dataclass(frozen=True, slots=True)
class FederationPlan:
    """Which federation is built; with a seed it fixes data, partition and first models.

    `samples_per_class` of the training data are dealt out to all nodes together, and `test_samples` of
    each class measured on; 0 takes all. Images are pooled down to `side` by area mean; 0 leaves them.
    With `augment` first models are trained on augmented data, and baselines may be, where that is better.
    """

    source: str
    nodes: int
    partition: Partition
    model: str
    samples_per_class: int = 0
    test_samples: int = 0
    side: int = 0
    augment: Augmentation = USUAL_AUGMENTATION

    @property
    def data_name(self) -> str:
        """The source without the folder that it lies in on this machine."""
        return Path(self.source).name

    def described(self) -> dict[str, Any]:
        """Return the plan as JSON values, the same wherever the source lies."""
        return {**asdict(self), "source": self.data_name}


@dataclass(frozen=True, slots=True)
class QueryPlan:
    """Which queries are asked per seed: at most `per_asker` of each of at most `askers` nodes."""

    kind: QueryKind
    askers: int = 2
    per_asker: int = 2


@dataclass(frozen=True, slots=True)
class BenchPlan:
    """One table: a federation per seed, its queries, and the names of the methods that answer them."""

    federation: FederationPlan
    queries: QueryPlan
    seeds: tuple[int, ...]
    methods: tuple[str, ...]

    @property
    def label(self) -> str:
        """Name of the files, such as digits-pathological-3-single, with what is unusual about the models."""
        plan = self.federation
        model = "" if plan.model == USUAL_MODEL else f"{plan.model}-"
        augment = "" if plan.augment == USUAL_AUGMENTATION else f"augment-{plan.augment}-"
        data = Path(plan.source).stem
        return f"{data}-{model}{augment}{plan.partition.kind}-{plan.partition.value:g}-{self.queries.kind}"

    def described(self) -> dict[str, Any]:
        """Return the plan as JSON values, the same wherever the source lies."""
        return {**asdict(self), "federation": self.federation.described()}


def parse_partition(text: str) -> Partition:
    """Return the partition that `text` writes; raises UsageError."""
    kind, _, number = text.partition(":")
    whole = kind == "pathological" and re.fullmatch(r"[1-9]\d{0,3}", number)
    real = kind == "dirichlet" and re.fullmatch(r"\d{1,4}(\.\d{1,6})?", number) and float(number) > 0
    if not whole and not real:
        raise UsageError(
            f"{text[:40]!r} is not a partition", fix="--partition pathological:3 or dirichlet:0.5"
        )
    return Partition("pathological" if whole else "dirichlet", float(number))


def key_of(*parts: object) -> str:
    """Return a name that changes with every part; parts are JSON values or dataclasses of them."""
    plain = [part if isinstance(part, (str, int, float, dict, list)) else _as_data(part) for part in parts]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def _as_data(part: Any) -> dict[str, Any]:
    return asdict(part)
