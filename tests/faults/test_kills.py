"""Whoever is killed, whenever: the model is the same, and nothing is fetched twice."""

from __future__ import annotations

import pytest

from qkt_node.cluster.chaos.schedule import Fault, Schedule
from qkt_p2p.outcome import STEPS
from tests.faults.arena import ASKER, Arena


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
