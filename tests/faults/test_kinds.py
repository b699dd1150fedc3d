"""Every kind of fault, at a teacher and at the asker: how the query ends, and what its model is made of."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from qkt_node.cluster.chaos.schedule import KINDS, Fault, Schedule
from tests.faults.arena import HASTY, Arena
from tests.faults.bank import KNOWLEDGE
from tests.faults.federation import ASKER
from tests.faults.run import End

USED = "used"
SILENT = "no answer within 0.3 s|has not answered the probe"


def fault(kind: str, node: str, *, step: str = "probe", lasts: float = 0.0, **parameters: float) -> Fault:
    return Fault(step, 0.0, node, kind, parameters, lasts)


@dataclass(frozen=True)
class Case:
    """A fault at the teacher `second`, and what the owner is told of that teacher."""

    fault: Fault
    told: str = USED


AT_TEACHER = [
    Case(fault("kill", "second"), "Connection reset"),
    Case(fault("pause", "second"), SILENT),
    Case(fault("partition", "second"), SILENT),
    Case(fault("half-open", "second"), SILENT),
    Case(fault("slow-loris", "second", connections=20)),
    Case(fault("delay", "second", seconds=0.001, jitter=0.001)),
    Case(fault("loss", "second", probability=1.0), "Connection reset"),
    Case(fault("rate", "second", bytes_per_second=1_000_000)),
    Case(fault("cut", "second", bytes=100)),
    Case(fault("spoil", "second", bytes=2000)),
    Case(fault("corrupt-chunk", "second", chunk=3), "chunk 3 is not what was offered"),
    Case(fault("truncated-stream", "second", chunk=3), "7 chunks missing"),
    Case(fault("duplicate-chunk", "second", chunk=3), "chunk 3 .* came twice"),
    Case(fault("reordered-chunks", "second")),
    Case(fault("clock-skew", "second", seconds=3600), "not yet valid .* check both machines' clocks"),
    Case(fault("clock-skew", "second", seconds=-3600), "expired .* check both machines' clocks"),
    Case(fault("expiring-certificate", "second", seconds=0), "expired"),
    Case(fault("full-disk", "second"), "cannot answer now"),
]
"""All last until the query ends."""


@pytest.fixture
async def usual(arena: Arena) -> End:
    """The query without a fault."""
    return await arena.run(Schedule(0, ()))


def test_every_kind_has_a_case() -> None:
    """A new kind of fault needs an expected end, at a teacher and, where it may befall it, at the asker."""
    assert {case.fault.kind for case in AT_TEACHER} == KINDS.keys()
    at_asker = {befalls.kind for befalls, _, _ in AT_ASKER} | {"kill"}
    assert at_asker == {name for name, kind in KINDS.items() if not kind.teachers_only}


@pytest.mark.parametrize("case", AT_TEACHER, ids=lambda case: case.fault.kind)
async def test_a_fault_at_a_teacher(arena: Arena, usual: End, case: Case) -> None:
    """The others teach in its place, what they taught is whole, and the next query knows nothing of it."""
    patient = dict(arena.deadlines)
    if case.told == SILENT:
        arena.deadlines["second"] = HASTY
    end = await arena.run(Schedule(1, (case.fault,)))
    arena.deadlines = patient
    assert (end.outcome, end.problems) == ("accepted", ())
    told = end.teachers.pop("second")
    assert re.search(case.told, told), told
    assert end.teachers == {"first": USED, "third": USED}
    expected = {name for name in KNOWLEDGE if name != "second" or case.told is USED}
    assert end.learned == {name: usual.learned[name] for name in expected}
    after = await arena.run(Schedule(2, ()))
    assert (after.outcome, after.learned, after.problems) == ("accepted", usual.learned, ())


AT_ASKER = [
    (fault("delay", ASKER, seconds=0.001, jitter=0.001), "accepted", ""),
    (fault("rate", ASKER, bytes_per_second=1_000_000), "accepted", ""),
    (fault("slow-loris", ASKER, connections=10), "accepted", ""),
    (fault("partition", ASKER, step="collect", lasts=0.05), "accepted", ""),
    (fault("pause", ASKER, step="collect", lasts=0.05), "accepted", ""),
    (fault("partition", ASKER), "failed", "no answer within 0.3 s"),
    (fault("half-open", ASKER), "failed", "no answer within 0.3 s"),
    (fault("loss", ASKER, probability=1.0), "failed", "Connection reset"),
    (fault("cut", ASKER, bytes=100), "accepted", ""),
    (fault("spoil", ASKER, bytes=2000), "accepted", ""),
    (fault("full-disk", ASKER, step="collect"), "failed", "state-0.sqlite"),
    (fault("clock-skew", ASKER, seconds=3600), "failed", "this node's certificate is valid only from"),
    (fault("clock-skew", ASKER, seconds=-3600), "failed", "this node's certificate expired"),
    (fault("clock-skew", ASKER, step="phase1", seconds=3600), "accepted", ""),
    (fault("expiring-certificate", ASKER, seconds=0), "failed", "this node's certificate expired"),
    (fault("expiring-certificate", ASKER, step="phase1", seconds=0), "accepted", ""),
]


@pytest.mark.parametrize(("befalls", "outcome", "told"), AT_ASKER)
async def test_a_fault_at_the_asker(
    arena: Arena, usual: End, befalls: Fault, outcome: str, told: str
) -> None:
    """It ends as it must, says why where it fails, and leaves nothing behind."""
    patient = dict(arena.deadlines)
    if "no answer" in told:
        arena.deadlines = dict.fromkeys(KNOWLEDGE, HASTY)
    end = await arena.run(Schedule(1, (befalls,)))
    arena.deadlines = patient
    assert (end.outcome, end.problems) == (outcome, ())
    if outcome == "accepted":
        assert end.learned == usual.learned
    else:
        assert told in end.reason
    assert arena.journal.held_digests(arena.query_id(1)) == set()
    after = await arena.run(Schedule(2, ()))
    assert (after.outcome, after.learned, after.problems) == ("accepted", usual.learned, ())


async def test_a_class_that_loses_both_its_teachers(arena: Arena) -> None:
    """The query fails, and names the class and what became of each teacher."""
    lies = fault("corrupt-chunk", "first", chunk=0), fault("truncated-stream", "second", chunk=0)
    end = await arena.run(Schedule(1, lies))
    assert (end.outcome, end.problems) == ("failed", ())
    assert re.search(
        "no teacher is left for dog .*first: .*not what was offered.*second: .*missing", end.reason
    )


async def test_the_deadline_ends_what_is_slow(arena: Arena) -> None:
    """Bytes that come, but not fast enough, end with the query's own deadline."""
    slow = fault("rate", ASKER, step="collect", bytes_per_second=4_000)
    end = await arena.run(Schedule(1, (slow,)), seconds=1.5)
    assert (end.outcome, end.problems) == ("failed", ())
    assert "the deadline of" in end.reason
