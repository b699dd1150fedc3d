"""Schedules are plain data: the same seed gives the same one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qkt_node.cluster.chaos.lies import LIES
from qkt_node.cluster.chaos.proxy import NETWORK
from qkt_node.cluster.chaos.schedule import (
    KINDS,
    MOST_FAULTS,
    Schedule,
    draw_schedule,
)

TEACHERS = ("node-2", "node-3")
seeds = st.integers(0, 2**62)


def drawn(seed: int, kinds: tuple[str, ...] = tuple(KINDS)) -> Schedule:
    return draw_schedule(seed, asker="node-1", teachers=TEACHERS, kinds=kinds)


@given(seeds)
def test_a_seed_is_a_schedule(seed: int) -> None:
    """Drawn again it is the same; the order of the kinds is no matter."""
    schedule = drawn(seed)
    assert drawn(seed, tuple(reversed(list(KINDS)))) == schedule


@given(seeds, st.lists(st.sampled_from(sorted(KINDS)), min_size=1, unique=True))
def test_what_is_drawn_can_happen(seed: int, kinds: list[str]) -> None:
    """Only the kinds that were asked for befall nodes, at steps of a query, and lies only those who teach."""
    schedule = drawn(seed, tuple(kinds))
    assert 1 <= len(schedule.faults) <= MOST_FAULTS
    for fault in schedule.faults:
        kind = KINDS[fault.kind]
        assert fault.kind in kinds
        assert fault.step in kind.steps
        assert fault.node in (TEACHERS if kind.teachers_only else ("node-1", *TEACHERS))
        assert 0 <= fault.share <= 1
        endless = fault.node != "node-1" or fault.kind not in ("pause", "clock-skew")
        assert fault.seconds > 0 or (fault.seconds == 0 and endless)
        assert fault.kind in str(fault)


def test_every_kind_is_drawn_at_every_node_and_step() -> None:
    """A thousand seeds leave nothing out."""
    faults = [fault for seed in range(1000) for fault in drawn(seed).faults]
    assert {(fault.kind, fault.step) for fault in faults} == {
        (name, step) for name, kind in KINDS.items() for step in kind.steps
    }
    assert {(fault.kind, fault.node) for fault in faults} == {
        (name, node)
        for name, kind in KINDS.items()
        for node in (TEACHERS if kind.teachers_only else ("node-1", *TEACHERS))
    }
    assert {*LIES, *NETWORK} < KINDS.keys()
