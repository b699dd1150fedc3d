"""From evidence to masks and weights."""

from __future__ import annotations

import pytest

from qkt_p2p.limits import MAX_PROBES
from qkt_p2p.masking.masks import PROBES, mask_of, probes_for, teacher_weights
from qkt_p2p.types import ClassName

A, B, C = (ClassName(name) for name in "abc")


def test_a_mask_holds_the_known_classes_that_are_wanted() -> None:
    """Evidence at the threshold counts, and order is that of the evidence."""
    evidence = {A: 0.9, B: 0.3, C: 0.1}
    assert mask_of(evidence) == (A, B)
    assert mask_of(evidence, wanted=[C, B]) == (B,)
    assert mask_of({}) == ()


def test_more_classes_take_more_probes() -> None:
    """Up to ten they are as many as ever; from there on they grow faster than the classes, up to the cap."""
    assert {probes_for(classes) for classes in range(11)} == {PROBES}
    assert [probes_for(classes) for classes in (11, 20, 28, 29, 1024)] == [1239, 4096, 8028, 8192, MAX_PROBES]


def test_weights_are_shares_of_the_evidence() -> None:
    """Over the teachers that know a class they sum to 1; the others get none."""
    weights = teacher_weights({"x": {A: 0.9, B: 0.1}, "y": {A: 0.6}, "z": {}})
    assert weights["x"] == pytest.approx({A: 0.6})
    assert weights["y"] == pytest.approx({A: 0.4})
    assert weights["z"] == {}
