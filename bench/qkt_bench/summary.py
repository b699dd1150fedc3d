"""From cells to figures per method: mean and sample standard deviation over the seeds."""

from __future__ import annotations

from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from qkt_bench.registry import BASELINES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qkt_bench.cells import Figures

_PLAIN = ("query_accuracy", "own_accuracy", "both_accuracy", "bytes_federation", "seconds")


def summarized(cells: Sequence[Figures], names: Sequence[str]) -> dict[str, Any]:
    """Return {"methods": figures by method, "baselines": their average where there are any}.

    A seed's figure is the mean over its queries. Gains are in accuracy on the query classes.
    """
    average = _by_seed([cell for cell in cells if cell["method"] in BASELINES], "query_accuracy")
    methods = {name: _figures([cell for cell in cells if cell["method"] == name], average) for name in names}
    for name in names:
        methods[name]["fedavg_bytes"] = _fedavg_bytes(cells, name, _query_accuracy)
        methods[name]["fedavg_bytes_both"] = _fedavg_bytes(cells, name, _both_accuracy)
    difference = _difference([cell for cell in cells if cell["method"] in ("qkt", "qkt-daemons")])
    return {
        "methods": methods,
        "baselines": _spread(list(average.values())),
        "daemons_difference": difference,
    }


def _figures(mine: Sequence[Figures], average: dict[int, float]) -> dict[str, Any]:
    figures = {key: _spread(list(_by_seed(mine, key).values())) for key in _PLAIN}
    query = _by_seed(mine, "query_accuracy")
    figures["gain"] = _spread([query[seed] - average[seed] for seed in query if seed in average])
    figures["bytes"] = _over_seeds(mine, lambda cell: cell["bytes_sent"] + cell["bytes_received"])
    figures["masks_f1"] = _over_seeds(mine, lambda cell: (cell["masks"] or {}).get("f1"))
    figures["ranks_over_nodes"] = _over_seeds(mine, lambda cell: (cell["ranks"] or {}).get("over_nodes"))
    figures["ranks_over_classes"] = _over_seeds(mine, lambda cell: (cell["ranks"] or {}).get("over_classes"))
    return figures


def _query_accuracy(point: Figures, cell: Figures) -> tuple[float, float]:
    """Return what a point of FedAvg's curve reached on the query classes, and what a cell did."""
    return point["query"], cell["query_accuracy"]


def _both_accuracy(point: Figures, cell: Figures) -> tuple[float, float]:
    """Return the same in mean over both kinds: a model that sees one class everywhere is not there yet."""
    own, asked = len(cell["local"]), len(cell["query"]["classes"])
    return (own * point["own"] + asked * point["query"]) / (own + asked), cell["both_accuracy"]


def _fedavg_bytes(
    cells: Sequence[Figures], name: str, reached_and_wanted: Callable[[Figures, Figures], tuple[float, float]]
) -> dict[str, Any] | None:
    """Return what FedAvg moved, per asker, until it had this method's accuracy.

    "ratio" is the mean of FedAvg's bytes by the method's over the queries where FedAvg got there; where it
    never did, its whole bytes are a lower bound and count in "least_ratio". None without FedAvg or bytes.
    """
    curves = {_query_key(cell): cell["curve"] for cell in cells if cell["method"] == "fedavg"}
    reached, bounds = [], []
    for cell in cells:
        moved = cell["bytes_sent"] + cell["bytes_received"]
        curve = curves.get(_query_key(cell))
        if cell["method"] != name or not moved or not curve:
            continue
        compared = [(point["bytes"], *reached_and_wanted(point, cell)) for point in curve]
        enough = [count for count, there, wanted in compared if there >= wanted]
        bounds.append(min(enough or [curve[-1]["bytes"]]) / moved)
        reached += [min(enough) / moved] if enough else []
    if not bounds:
        return None
    return {
        "queries": len(bounds),
        "reached": len(reached),
        "ratio": fmean(reached) if reached else None,
        "least_ratio": fmean(bounds),
    }


def _difference(cells: Sequence[Figures]) -> float | None:
    """Return the largest difference in any class's accuracy between two answers to one query."""
    first: dict[object, dict[str, float]] = {}
    found = [
        abs(first[_query_key(cell)][name] - value)
        for cell in cells
        if first.setdefault(_query_key(cell), cell["accuracy"]) is not cell["accuracy"]
        for name, value in cell["accuracy"].items()
    ]
    return max(found, default=None)


def _query_key(cell: Figures) -> tuple[int, str, tuple[str, ...]]:
    return cell["seed"], cell["query"]["asker"], tuple(cell["query"]["classes"])


def _by_seed(cells: Sequence[Figures], key: str) -> dict[int, float]:
    seeds = dict.fromkeys(cell["seed"] for cell in cells)
    return {seed: fmean(cell[key] for cell in cells if cell["seed"] == seed) for seed in seeds}


def _over_seeds(cells: Sequence[Figures], figure: Callable[[Figures], float | None]) -> dict[str, Any] | None:
    """Return the spread of what `figure` finds; None where it finds nothing."""
    means = []
    for seed in dict.fromkeys(cell["seed"] for cell in cells):
        values = [figure(cell) for cell in cells if cell["seed"] == seed]
        found = [value for value in values if value is not None]
        means += [fmean(found)] if found else []
    return _spread(means)


def _spread(values: Sequence[float]) -> dict[str, Any] | None:
    """Return mean and sample standard deviation over the seeds; None for no values."""
    if not values:
        return None
    spread = stdev(values) if len(values) > 1 else None
    return {"mean": fmean(values), "sd": spread, "seeds": list(values)}
