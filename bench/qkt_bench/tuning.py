"""Hyperparameters chosen from a small grid on validation data: what nodes hold out, never test data."""

from __future__ import annotations

from dataclasses import asdict
from statistics import fmean
from typing import TYPE_CHECKING, Any, TypeVar

from qkt_bench.predictors import Single, accuracies

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qkt_bench.federation import Federation
    from qkt_bench.predictors import Predictor
    from qkt_bench.queries import BenchQuery
    from qkt_p2p.models import Classifier

T = TypeVar("T")


def query_score(federation: Federation, query: BenchQuery, predictor: Predictor) -> float:
    """Return the mean of the accuracy on query and on own classes, on validation data."""
    local = federation.node(query.asker).local
    found = accuracies(predictor, federation.validation, (*local, *query.classes))
    parts = [[found[name] for name in names if name in found] for names in (query.classes, local)]
    return fmean(fmean(part) if part else 0.0 for part in parts)


def global_score(federation: Federation, model: Classifier) -> float:
    """Return the mean accuracy over all classes, on validation data."""
    return fmean(accuracies(Single(model), federation.validation, federation.classes).values())


def best_of(grid: Sequence[T], score: Callable[[T], float]) -> tuple[T, dict[str, Any]]:
    """Return the choice of the highest score, the first of equals, and a record of all scores."""
    scores = [score(choice) for choice in grid]
    best = grid[scores.index(max(scores))]
    tried = [
        {"settings": asdict(choice), "validation": round(value, 4)}  # type: ignore[call-overload]
        for choice, value in zip(grid, scores, strict=True)
    ]
    return best, {"settings": asdict(best), "grid": tried}  # type: ignore[call-overload]
