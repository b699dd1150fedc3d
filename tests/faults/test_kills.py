"""Whoever is killed, whenever: the model is the same, and nothing is fetched twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from qkt_node.cluster.chaos.schedule import Fault, Schedule
from qkt_p2p.outcome import STEPS
from qkt_p2p.transport.client import USUAL_DEADLINES
from tests.faults.arena import HASTY, Arena
from tests.faults.bank import CHUNKS_PER_CLASS
from tests.faults.federation import ASKER, Members

CHUNKS = 2 * CHUNKS_PER_CLASS
"""In the response of each teacher."""


@pytest.mark.parametrize("arrived", range(1, CHUNKS + 1))
async def test_a_teacher_is_killed_at_each_tenth_of_its_stream(arena: Arena, arrived: int) -> None:
    """It starts again, the stream goes on where it broke, and the model is the same."""
    usual = await arena.run(Schedule(0, ()))
    arena.pace = 0.002
    kill = Fault("collect", 0.0, "second", "kill", {}, 0.1)
    end = await arena.run(Schedule(1, ()), at_chunk={("second", arrived): kill})
    assert (end.outcome, end.problems) == ("accepted", ())
    assert (end.learned, end.repeated) == (usual.learned, 0)


@pytest.mark.parametrize("deadline_passes", [False, True])
async def test_what_came_of_a_teacher_that_does_not_come_back_is_used(
    members: Members, tmp_path: Path, *, deadline_passes: bool
) -> None:
    """The class whose recipe is here is learned; whether the teacher is gone, or only silent for too long."""
    async with Arena(members, tmp_path, pieces=1, pace=0.05) as arena:
        # Silent for longer than the query lasts: that is noticed, or it is cut when the deadline is near.
        arena.deadlines["second"] = USUAL_DEADLINES if deadline_passes else HASTY
        silent = Fault("collect", 0.0, "second", "half-open", {}, 0.0)
        end = await arena.run(
            Schedule(1, ()), seconds=6.0 if deadline_passes else 30.0, at_chunk={("second", 1): silent}
        )
    assert (end.outcome, end.problems, end.parts) == ("accepted", (), 1)
    assert end.teachers["second"] == "used"


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("step", STEPS)
async def test_the_asker_is_killed_at_each_step(arena: Arena, step: str, times: int) -> None:
    """It goes on after its last finished step, with the chunks that it holds; the model is the same."""
    usual = await arena.run(Schedule(0, ()))
    arena.pace = 0.002
    kills = tuple(Fault(step, share, ASKER, "kill", {}, 0.0) for share in (0.3, 0.6)[:times])
    end = await arena.run(Schedule(1, kills))
    assert (end.outcome, end.problems) == ("accepted", ())
    assert (end.learned, end.repeated) == (usual.learned, 0)
    assert arena.journal.held_digests(arena.query_id(1)) == set()
