"""Masks m[t] and teacher weights: what evidence means for a query."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from qkt_p2p.limits import MAX_PROBES

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from qkt_p2p.types import ClassName

T = TypeVar("T", bound=str)

PROBES: Final = 1024
"""Probes in a usual request; they cost one forward pass."""

_FEW_CLASSES: Final = 10

MASK_THRESHOLD = 0.3
"""Evidence from which a model counts as knowing a class; measured, see docs/method.md."""


def probes_for(classes: int) -> int:
    """Return how many probes show which of so many `classes` a model knows.

    The more there are, the fewer probes look like any one of them, and like some far less than like others.
    """
    return max(PROBES, min(PROBES * classes**2 // _FEW_CLASSES**2, MAX_PROBES))


def mask_of(
    evidence: Mapping[ClassName, float], *, wanted: Collection[ClassName] | None = None
) -> tuple[ClassName, ...]:
    """Return the classes with evidence of at least MASK_THRESHOLD, of those `wanted` (all where None)."""
    return tuple(
        name
        for name, value in evidence.items()
        if value >= MASK_THRESHOLD and (wanted is None or name in wanted)
    )


def teacher_weights(evidence: Mapping[T, Mapping[ClassName, float]]) -> dict[T, dict[ClassName, float]]:
    """Return each teacher's weight for each class of its mask: its share of the evidence of all teachers."""
    totals: dict[ClassName, float] = {}
    for values in evidence.values():
        for name in mask_of(values):
            totals[name] = totals.get(name, 0.0) + values[name]
    return {
        teacher: {name: values[name] / totals[name] for name in mask_of(values)}
        for teacher, values in evidence.items()
    }
