"""A query that goes on where another process was killed: after its last finished step."""

from __future__ import annotations

import asyncio
from copy import deepcopy
from dataclasses import replace

import pytest

from qkt_p2p.digests import chunk_digest
from qkt_p2p.errors import DeadlineError, PeerError
from qkt_p2p.outcome import STEPS, QueryOutcome
from qkt_p2p.student import Student
from tests.student.classroom import (
    CAT,
    DOG,
    MODEL,
    OWL,
    SAMPLES,
    Classroom,
    FakeTeacher,
    chunk_of,
    query,
)

TAKEN = {
    "probe": ["stem", "check", "check", "phase1", "phase2", "validate", "adopt"],
    "collect": ["phase1", "phase2", "validate", "adopt"],
    "phase1": ["phase2", "validate", "adopt"],
    "phase2": ["validate", "adopt"],
    "validate": ["adopt"],
}
"""What a learner still does after each step."""


async def kept_after(classroom: Classroom, outcome: QueryOutcome) -> dict[str, QueryOutcome]:
    """Run a query; return what was kept of it after each of its steps."""
    kept: dict[str, QueryOutcome] = {}

    def keep(found: QueryOutcome) -> None:
        kept[found.finished[-1]] = deepcopy(found)

    student = Student(classroom.learner, classroom.shelf, samples_per_class=SAMPLES, probes=64)
    await student.learn(outcome, MODEL, links=classroom.links, progress=classroom.progress.append, keep=keep)
    return kept


def kennel_and_vet(classroom: Classroom) -> list[FakeTeacher]:
    evidence = {"kennel": {DOG: 1.0, CAT: 0.6}, "vet": {DOG: 0.8, OWL: 1.0}}
    return [classroom.add(name, FakeTeacher(known)) for name, known in evidence.items()]


@pytest.mark.parametrize("step", list(TAKEN))
async def test_a_query_goes_on_after_its_last_finished_step(classroom: Classroom, step: str) -> None:
    """Nothing is done twice, and the result is that of a query that nobody disturbed."""
    teachers = kennel_and_vet(classroom)
    undisturbed = QueryOutcome(query(DOG))
    kept = await kept_after(classroom, undisturbed)
    assert list(kept) == list(STEPS)[1:]
    probes, asked = sum(len(each.probes) for each in teachers), sum(len(each.requests) for each in teachers)
    classroom.learner.steps.clear()
    resumed = kept[step]
    await classroom.run(resumed)
    assert classroom.learner.steps == TAKEN[step]
    assert sum(len(each.probes) for each in teachers) == probes
    again = sum(len(each.requests) for each in teachers) - asked
    assert again == 0
    assert (resumed.outcome, resumed.model_version) == ("accepted", 2)
    weights = {peer: teacher.weight for peer, teacher in undisturbed.teachers.items()}
    assert {peer: teacher.weight for peer, teacher in resumed.teachers.items()} == weights


async def test_chunks_that_are_held_are_not_fetched_again(classroom: Classroom) -> None:
    """What came before the process was killed lies in the store; who sent all of it is not even asked."""
    kennel, vet = kennel_and_vet(classroom)
    resumed = (await kept_after(classroom, QueryOutcome(query(DOG))))["probe"]
    lost = chunk_digest(chunk_of(CAT, kennel.requests[0].seed))
    del classroom.shelf.held[lost]
    held = set(classroom.shelf.held)
    await classroom.run(resumed)
    assert set(kennel.requests[-1].held) == held
    assert (len(kennel.requests), len(vet.requests)) == (2, 1)
    assert [teacher.attempts for teacher in resumed.teachers.values()] == [1, 0]
    assert [teacher.chunks for teacher in resumed.teachers.values()] == [2, 0]
    assert [teacher.held_chunks for teacher in resumed.teachers.values()] == [1, 1]
    assert [teacher.samples for teacher in resumed.teachers.values()] == [2 * SAMPLES, SAMPLES]


async def test_a_teacher_that_did_not_come_back_is_left_out(classroom: Classroom) -> None:
    """Others of its class teach; where there is none, the query fails and says why."""
    kennel_and_vet(classroom)
    resumed = (await kept_after(classroom, QueryOutcome(query(DOG))))["probe"]
    classroom.shelf.held.clear()
    alone = deepcopy(resumed)
    (_, vet), classroom.links = classroom.links, classroom.links[:1]
    await classroom.run(resumed)
    assert [teacher.used for teacher in resumed.teachers.values()] == [True, False]
    assert "not reached again" in resumed.teachers[vet[1].peer].reason
    classroom.links = []
    classroom.shelf.held.clear()
    with pytest.raises(PeerError, match=r"no teacher is left for dog .*kennel: it was not reached again"):
        await classroom.run(alone)
    assert alone.finished == ("probe",)


async def test_the_deadline_counts_what_was_used_before(classroom: Classroom) -> None:
    """The seconds of finished steps count, finding peers does not, nor does the time in between."""
    kennel_and_vet(classroom)
    resumed = (await kept_after(classroom, QueryOutcome(query(DOG, deadline=30.0))))["phase1"]
    resumed.seconds = {"discover": 100.0, "probe": 10.0, "collect": 5.0, "phase1": 14.9}
    assert resumed.seconds_left == pytest.approx(0.1)
    classroom.learner.hangs_in = "phase2"
    running = asyncio.ensure_future(classroom.run(resumed))
    await classroom.learner.began.wait()
    with pytest.raises(DeadlineError, match="the deadline of 30 s passed in step phase2"):
        await running


async def test_a_verdict_that_was_reached_stands(classroom: Classroom) -> None:
    """A refused update stays refused, and a trial stays one."""
    kennel_and_vet(classroom)
    kept = (await kept_after(classroom, QueryOutcome(query(DOG))))["validate"]
    refused, trial = deepcopy(kept), replace(deepcopy(kept), query=query(DOG, trial=True))
    refused.verdict = "refused"
    classroom.learner.steps.clear()
    for outcome in (refused, trial):
        await classroom.run(outcome)
    assert (refused.outcome, trial.outcome, classroom.learner.steps) == ("refused", "accepted", [])
