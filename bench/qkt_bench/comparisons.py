"""One table's methods against each other; None where the table lacks one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qkt_bench.registry import BASELINES

Table = Mapping[str, Any]
"""The JSON object of a bench."""


def mean(table: Table, method: str, key: str) -> float:
    """Return the mean of a method's figure over seeds, as it is in the JSON."""
    return float(table["methods"][method][key]["mean"])


def percent(table: Table, method: str, key: str) -> float:
    """Return the mean of an accuracy or a gain in percent, or points."""
    return 100 * mean(table, method, key)


def best_baseline(table: Table) -> str:
    """Return the name of the baseline with the highest mean over both kinds of classes."""
    named = [name for name in BASELINES if name in table["methods"]]
    return max(named, key=lambda name: percent(table, name, "both_accuracy"))


def points_over(table: Table, one: str, other: str, key: str) -> float | None:
    """Return by how many points the accuracy `key` of method `one` is above that of `other`."""
    if not {one, other} <= table["methods"].keys():
        return None
    return percent(table, one, key) - percent(table, other, key)


def share_of_light(table: Table, key: str) -> float | None:
    """Return QKT Light's bytes or seconds in percent of QKT's."""
    if "qkt-light" not in table["methods"]:
        return None
    return 100 * mean(table, "qkt-light", key) / mean(table, "qkt", key)
