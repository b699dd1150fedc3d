"""Derived seeds."""

from __future__ import annotations

from qkt_p2p.seeds import derived_seed


def test_seeds_differ_by_purpose_and_are_the_same_everywhere() -> None:
    """The value is fixed for all time, as stored reports name seeds."""
    assert derived_seed(7, "sample", "cat") == derived_seed(7, "sample", "cat") == 1773112435853401314
    others = {
        derived_seed(7, "sample", "dog"),
        derived_seed(8, "sample", "cat"),
        derived_seed(7, "samplecat"),
    }
    assert len(others) == 3
    assert all(0 <= seed < 2**63 for seed in others)
