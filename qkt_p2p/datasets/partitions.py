"""Ways to deal one data set out to several nodes, for clusters and benchmarks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from qkt_p2p.errors import ConfigError

if TYPE_CHECKING:
    from qkt_p2p.datasets.labelled import LabelledData

Indices = npt.NDArray[np.int64]

_DIRICHLET_ATTEMPTS = 100


def pathological(data: LabelledData, *, nodes: int, classes_per_node: int, seed: int) -> list[Indices]:
    """Return the sample indices of each node, every node holding `classes_per_node` classes.

    Classes are dealt evenly, so each is held by at least one node where nodes * classes_per_node allows;
    the samples of a class that several nodes hold are split between them. Raises ConfigError where the
    data has too few classes for every node to lack one.
    """
    present = [data.classes.index(name) for name in data.present]
    if nodes < 1 or not 1 <= classes_per_node < len(present):
        raise ConfigError(
            f"cannot give each of {nodes} nodes {classes_per_node} of {len(present)} classes",
            fix=f"use 1 to {len(present) - 1} classes per node",
        )
    generator = np.random.default_rng(seed)
    holders: dict[int, list[int]] = {label: [] for label in present}
    for node in range(nodes):
        shuffled = generator.permutation(present).tolist()
        for label in sorted(shuffled, key=lambda label: len(holders[label]))[:classes_per_node]:
            holders[label].append(node)
    parts: list[list[Indices]] = [[np.empty(0, np.int64)] for _ in range(nodes)]
    for label, its_nodes in holders.items():
        shares = np.array_split(
            generator.permutation(np.flatnonzero(data.labels == label)), max(len(its_nodes), 1)
        )
        for node, share in zip(its_nodes, shares, strict=False):
            parts[node].append(share)
    return [np.sort(np.concatenate(part)) for part in parts]


def dirichlet(data: LabelledData, *, nodes: int, alpha: float, seed: int) -> list[Indices]:
    """Return the sample indices of each node, class shares drawn from a symmetric Dirichlet(alpha).

    All samples are dealt out, and every node gets one at least. Raises ConfigError where that fails.
    """
    if nodes < 1 or not alpha > 0 or not np.isfinite(alpha):
        raise ConfigError(f"cannot draw Dirichlet({alpha}) shares for {nodes} nodes", fix="use alpha > 0")
    generator = np.random.default_rng(seed)
    for _ in range(_DIRICHLET_ATTEMPTS):
        parts = _dirichlet_once(data, nodes, alpha, generator)
        if min(len(part) for part in parts) > 0:
            return parts
    raise ConfigError(
        f"Dirichlet({alpha}) left one of {nodes} nodes without any of {len(data)} samples",
        fix="use fewer nodes or a larger alpha",
    )


def _dirichlet_once(
    data: LabelledData, nodes: int, alpha: float, generator: np.random.Generator
) -> list[Indices]:
    owner = np.empty(len(data), np.int64)
    for label in range(len(data.classes)):
        indices = generator.permutation(np.flatnonzero(data.labels == label))
        shares = generator.dirichlet(np.full(nodes, alpha))
        bounds = np.round(np.cumsum(shares)[:-1] * len(indices)).astype(np.int64)
        for node, part in enumerate(np.split(indices, bounds)):
            owner[part] = node
    return [np.flatnonzero(owner == node) for node in range(nodes)]
