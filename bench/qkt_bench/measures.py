"""Figures beside accuracy: how well masks tell what was trained on, and whether evidence follows scarcity."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from scipy.stats import spearmanr

from qkt_p2p.masking.masks import mask_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from qkt_p2p.types import ClassName

    Evidence = Mapping[str, Mapping[ClassName, float]]
    Counts = Mapping[str, Mapping[ClassName, int]]


@dataclass(frozen=True, slots=True)
class MaskQuality:
    """Over all pairs of teacher and class of one query."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class RankCorrelation:
    """Mean Spearman correlation of evidence with sample counts; None where no counts differ."""

    over_nodes: float | None
    over_classes: float | None


def mask_quality(evidence: Evidence, trained: Mapping[str, Collection[ClassName]]) -> MaskQuality:
    """Compare the classes whose evidence passes the threshold with those truly trained on."""
    shown = {(node, name) for node, values in evidence.items() for name in mask_of(values)}
    true = {(node, name) for node in evidence for name in trained[node]}
    hits = len(shown & true)
    precision = hits / len(shown) if shown else 0.0
    recall = hits / len(true) if true else 0.0
    f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
    return MaskQuality(precision, recall, f1)


def rank_correlation(evidence: Evidence, counts: Counts) -> RankCorrelation:
    """Correlate per class over the teachers, and per teacher over the classes.

    Evidence below the mask's threshold counts as none: nothing uses it, and the order among classes of
    which a model knows nothing is noise.
    """
    evidence = {
        node: {name: value if name in mask_of(values) else 0.0 for name, value in values.items()}
        for node, values in evidence.items()
    }
    classes = sorted({name for values in evidence.values() for name in values})
    by_class = [
        ([evidence[node].get(name, 0.0) for node in evidence], [counts[node][name] for node in evidence])
        for name in classes
    ]
    by_node = [
        ([values[name] for name in values], [counts[node][name] for name in values])
        for node, values in evidence.items()
    ]
    return RankCorrelation(_mean(by_class), _mean(by_node))


def _mean(pairs: Sequence[tuple[list[float], list[int]]]) -> float | None:
    found = [
        float(spearmanr(values, counts).statistic)
        for values, counts in pairs
        if len(set(values)) > 1 and len(set(counts)) > 1
    ]
    return fmean(found) if found else None
