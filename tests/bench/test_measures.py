"""Masks against the truth, and evidence against scarcity."""

from __future__ import annotations

import pytest

from qkt_bench.measures import mask_quality, rank_correlation
from qkt_p2p.types import ClassName

A, B, C = (ClassName(name) for name in "abc")


def test_masks_are_compared_by_teacher_and_class() -> None:
    """Two hits, one false alarm, one miss."""
    evidence = {"one": {A: 0.9, B: 0.8, C: 0.0}, "two": {A: 0.1, B: 0.2, C: 0.7}}
    quality = mask_quality(evidence, {"one": [A], "two": [B, C]})
    assert (quality.precision, quality.recall) == pytest.approx((2 / 3, 2 / 3))
    assert quality.f1 == pytest.approx(2 / 3)


def test_no_masks_are_no_quality() -> None:
    """Nothing shown where something was trained on is a zero, not an error."""
    assert mask_quality({"one": {A: 0.0}}, {"one": [A]}).f1 == 0


def test_evidence_that_follows_counts_correlates() -> None:
    """Per class over nodes and per node over classes; what is constant does not count."""
    evidence = {"one": {A: 0.9, B: 0.1}, "two": {A: 0.6, B: 0.4}, "three": {A: 0.4, B: 0.9}}
    counts = {"one": {A: 30, B: 0}, "two": {A: 20, B: 10}, "three": {A: 5, B: 60}}
    ranks = rank_correlation(evidence, counts)
    assert (ranks.over_nodes, ranks.over_classes) == pytest.approx((1.0, 1.0))
    unknown = {"one": {A: 0.9, B: 0.1}, "two": {A: 0.02, B: 0.4}, "three": {A: 0.03, B: 0.9}}
    rare = {"one": {A: 30, B: 0}, "two": {A: 0, B: 10}, "three": {A: 0, B: 60}}
    assert rank_correlation(unknown, rare).over_nodes == pytest.approx(1.0)
    level = {"one": {A: 5, B: 5}, "two": {A: 5, B: 5}, "three": {A: 5, B: 5}}
    assert rank_correlation(evidence, level).over_nodes is None
