"""Which queries are asked of a federation; its seed decides, so that all methods get the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from qkt_bench.federation import LOCAL_SAMPLES
from qkt_bench.plan import MULTI_CLASSES
from qkt_p2p.errors import ConfigError
from qkt_p2p.seeds import derived_seed

if TYPE_CHECKING:
    from qkt_bench.federation import BenchNode, Federation
    from qkt_bench.plan import QueryPlan
    from qkt_p2p.types import ClassName

TEACHER_SAMPLES: Final = 20
"""A class can be asked for where another node has at least so many samples of it."""


@dataclass(frozen=True, slots=True)
class BenchQuery:
    """`asker` wants `classes`; `own_samples` is how many it has of each (fewer than LOCAL_SAMPLES)."""

    number: int
    asker: str
    classes: tuple[ClassName, ...]
    own_samples: tuple[int, ...]
    seed: int


def make_queries(federation: Federation, plan: QueryPlan) -> tuple[BenchQuery, ...]:
    """Return the queries of one seed; raises ConfigError where no node lacks what another has."""
    generator = np.random.default_rng(derived_seed(federation.seed, "queries", plan.kind))
    size = 1 if plan.kind == "single" else MULTI_CLASSES
    found: list[BenchQuery] = []
    askers = 0
    for at in generator.permutation(len(federation.nodes)).tolist():
        node = federation.nodes[at]
        wanted = generator.permutation(wanted_classes(federation, node)).tolist()
        groups = [wanted[start : start + size] for start in range(0, len(wanted), size)]
        if groups and askers < plan.askers:
            askers += 1
            found += [
                _query(federation, node, group, number=len(found) + extra)
                for extra, group in enumerate(groups[: plan.per_asker])
            ]
    if not found:
        raise ConfigError(
            "no node lacks a class that another could teach", fix="use another --partition or more data"
        )
    return tuple(found)


def wanted_classes(federation: Federation, node: BenchNode) -> list[ClassName]:
    """Return the classes that `node` has too few samples of and another node can teach."""
    taught = {
        name
        for other in federation.others(node.name)
        for name, count in other.train.counts.items()
        if count >= TEACHER_SAMPLES
    }
    return [name for name, count in node.train.counts.items() if count < LOCAL_SAMPLES and name in taught]


def _query(federation: Federation, node: BenchNode, classes: list[str], *, number: int) -> BenchQuery:
    counts = node.train.counts
    ordered = tuple(name for name in federation.classes if name in classes)
    return BenchQuery(
        number=number,
        asker=node.name,
        classes=ordered,
        own_samples=tuple(counts[name] for name in ordered),
        seed=derived_seed(federation.seed, "query", str(number)),
    )
