"""What is slow for a teacher, by what it took before."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkt_p2p import limits
from qkt_p2p.asking.stragglers import (
    bounds_from,
    learning_seconds_kept,
    usual_at_most,
)
from qkt_p2p.types import TransferRecord

SECONDS = st.just(0.0) | st.floats(1e-9, 1e4)
RECORDS = st.lists(st.builds(TransferRecord, SECONDS, st.integers(0, 2**30), SECONDS), max_size=40)


@given(st.lists(SECONDS, min_size=1, max_size=40), st.floats(1, 1e3))
def test_the_bound_is_above_the_median_and_keeps_its_scale(values: list[float], factor: float) -> None:
    """At least twice the median is always allowed; times in other units have the same bound in them."""
    bound = usual_at_most(values)
    ordered = sorted(values)
    assert bound >= 2 * ordered[(len(values) - 1) // 2] * (1 - 1e-9)
    assert usual_at_most([factor * value for value in values]) == pytest.approx(factor * bound, rel=1e-6)


@given(st.lists(st.floats(1, 10), min_size=5, max_size=31), st.floats(1e3, 1e6))
def test_a_few_wild_times_do_not_move_the_bound_far(values: list[float], wild: float) -> None:
    """Fewer than half of the times can be as they like: the bound stays that of the others."""
    spoilt = values + [wild] * ((len(values) - 1) // 2)
    assert usual_at_most(spoilt) < 10 + 4 * 1.4826 * 10


@given(RECORDS)
def test_bounds_are_never_below_the_grace(records: list[TransferRecord]) -> None:
    """Whatever happened before, nobody is slow at once, and no bound is negative or lacks an end."""
    bounds = bounds_from(records)
    assert limits.STRAGGLER_GRACE_SECONDS <= bounds.offer_seconds < float("inf")
    assert bounds.byte_seconds >= 0
    assert bounds.transfer_seconds(0) == limits.STRAGGLER_GRACE_SECONDS
    assert bounds.transfer_seconds(10**9) >= bounds.transfer_seconds(10**6)


@given(RECORDS)
def test_times_like_before_are_not_slow(records: list[TransferRecord]) -> None:
    """More than half of a teacher's own earlier transfers would pass."""
    if len(records) >= 3:
        bounds = bounds_from(records)
        passed = sum(record.offer_seconds <= bounds.offer_seconds for record in records)
        assert 2 * passed >= len(records)


def test_too_few_transfers_teach_nothing() -> None:
    """Two may be chance; small ones tell how long a message takes, and nothing of a pace."""
    two = [TransferRecord(500.0, 2**20, 500.0)] * 2
    small = [TransferRecord(1.0, 100, 10.0)] * 5
    default = 1 / limits.STRAGGLER_BYTES_PER_SECOND
    assert bounds_from(two) == bounds_from([])
    assert (bounds_from([]).offer_seconds, bounds_from([]).byte_seconds) == (
        limits.STRAGGLER_OFFER_SECONDS,
        default,
    )
    assert (bounds_from(small).byte_seconds, bounds_from(small).learned) == (default, True)


@given(st.floats(0.01, 1e5), st.lists(st.floats(0, 1e5), max_size=8))
def test_time_to_learn_is_a_part_of_the_deadline(deadline: float, earlier: list[float]) -> None:
    """Never more than its share, that much where nothing is known, and else what it took."""
    kept = learning_seconds_kept(deadline, earlier)
    most = limits.LEARNING_SHARE * deadline
    assert 0 <= kept <= most
    assert kept == (min(1.5 * max(earlier), most) if earlier else most)
