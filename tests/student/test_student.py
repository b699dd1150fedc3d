"""One query from its first probe to its last step: its order, its ends, and what it leaves behind."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from qkt_bench.network.virtual_time import run_in_virtual_time
from qkt_p2p.errors import ConfigError, DeadlineError, QktError, UpdateRefusedError
from qkt_p2p.outcome import STEPS, QueryOutcome
from qkt_p2p.student import Student
from qkt_p2p.types import LIGHT_RANKS, ClassAccuracy, ClassName, Validation
from tests.contract import QUERY_KEYS
from tests.student.classroom import (
    ACCEPTED,
    CAT,
    DOG,
    MODEL,
    OWL,
    QUICK,
    Classroom,
    FakeLearner,
    FakeTeacher,
    peer_of,
    query,
)

ADDITIONS = {"reason", "trial", "force", "seed", "peer_names", "quorum", "bytes_saved"}
TEACHER_CONTRACT = {"peer", "classes", "samples", "bytes", "weight", "used", "reason"}
TEACHER_ADDITIONS = {
    "name",
    "bytes_saved",
    "encoding",
    "attempts",
    "chunks",
    "held_chunks",
    "held_bytes",
    "digest",
    "cut",
    "missing",
    "stood_in",
    "withheld",
}


def kennel(classroom: Classroom, **changes: object) -> FakeTeacher:
    return classroom.add("kennel", FakeTeacher({DOG: 1.0}, **changes))  # type: ignore[arg-type]


async def test_the_steps_follow_the_paper(classroom: Classroom) -> None:
    """Ask, collect, phase 1, phase 2, validate, adopt, each told when it begins."""
    kennel(classroom)
    outcome = await classroom.learn(query(DOG))
    assert classroom.learner.steps == ["stem", "check", "phase1", "phase2", "validate", "adopt"]
    began = [event.step for event in classroom.progress if event.message == "started"]
    assert began == list(STEPS)[1:] == list(outcome.seconds)
    assert (outcome.outcome, outcome.reason, outcome.model_version) == ("accepted", "learned", 2)


async def test_the_same_seed_asks_the_same(classroom: Classroom) -> None:
    """Probes and samples follow from the query's seed and from nothing else."""
    teacher = kennel(classroom)
    for seed in (5, 5, 6):
        classroom.shelf.held.clear()
        await classroom.learn(query(DOG, seed=seed))
    assert teacher.probes[0] == teacher.probes[1] != teacher.probes[2]
    assert teacher.requests[0] == teacher.requests[1] != teacher.requests[2]
    assert teacher.probes[0].seed != teacher.requests[0].seed


@pytest.mark.parametrize(("others", "probes"), [(0, 1024), (8, 1024), (18, 4096)])
async def test_a_federation_of_more_classes_takes_more_probes(
    classroom: Classroom, others: int, probes: int
) -> None:
    """Counted are its own classes, those asked for, and those that others say they know."""
    teacher = kennel(classroom)
    student = Student(classroom.learner, classroom.shelf, samples_per_class=40, patience=QUICK)
    await student.learn(
        QueryOutcome(query(DOG)),
        MODEL,
        links=classroom.links,
        progress=lambda _: None,
        others_know=[DOG, *(ClassName(f"breed {number}") for number in range(others))],
    )
    assert [request.probes for request in teacher.probes] == [probes]


async def test_all_teachers_are_asked_the_same(classroom: Classroom) -> None:
    """Evidence can be compared because everybody saw the same probes."""
    first, second = kennel(classroom), classroom.add("vet", FakeTeacher({DOG: 1.0}))
    await classroom.learn(query(DOG))
    assert first.probes == second.probes
    assert first.requests == second.requests
    assert first.requests[0].input_shape == MODEL.input_shape


@pytest.mark.parametrize(("asked", "medium"), [("auto", "features"), ("weights", "weights")])
async def test_the_medium_is_the_owners_choice(classroom: Classroom, asked: str, medium: str) -> None:
    """Without one the first that this version knows is taken; everybody is told, the learner too."""
    teacher = kennel(classroom)
    outcome = await classroom.learn(replace(query(DOG), medium=asked))
    assert classroom.learner.task is not None
    assert outcome.medium == teacher.requests[0].medium == classroom.learner.task.medium == medium
    assert outcome.as_data()["medium"] == medium


@pytest.mark.parametrize(("medium", "stem"), [("features", b"stem for features"), ("moments", b"")])
async def test_the_stem_travels_where_the_learner_says_so(
    classroom: Classroom, medium: str, stem: bytes
) -> None:
    """The learner is asked once, for the medium that was chosen, and all teachers get the same."""
    teachers = [kennel(classroom), classroom.add("vet", FakeTeacher({DOG: 1.0}))]
    await classroom.learn(replace(query(DOG), medium=medium))
    assert [request.stem for teacher in teachers for request in teacher.requests] == [stem, stem]
    assert classroom.learner.steps.count("stem") == 1


async def test_a_light_query_asks_for_less(classroom: Classroom) -> None:
    """A fifth of the usual axes, and only what the student has no data of; its JSON says so."""
    teacher = classroom.add("kennel", FakeTeacher({DOG: 1.0, CAT: 1.0, OWL: 1.0}))
    model = replace(MODEL, known=(CAT, OWL))
    asked = replace(query(DOG), medium="moments")
    usual = await classroom.learn(asked, model)
    light = await classroom.learn(replace(asked, light=True), model)
    first, second = teacher.requests
    assert (first.rank, first.classes) == (0, (DOG, CAT, OWL))
    assert (second.rank, second.classes) == (LIGHT_RANKS["moments"], (DOG, OWL))
    assert (usual.as_data()["mode"], light.as_data()["mode"]) == ("qkt", "light")
    assert classroom.learner.task is not None
    assert classroom.learner.task.query.light


@pytest.mark.parametrize(("second", "heard"), [(0.95, ["best", "second"]), (0.8, ["best"])])
async def test_a_light_query_in_features_hears_of_own_classes_whom_evidence_hardly_tells_apart(
    classroom: Classroom, second: float, heard: list[str]
) -> None:
    """The best teacher, and the next one where it knows the class nearly as well; never a third one."""
    kennel(classroom)
    evidence = {"third": 0.95 * second, "second": second, "best": 1.0}
    teachers = {name: classroom.add(name, FakeTeacher({CAT: value})) for name, value in evidence.items()}
    await classroom.learn(replace(query(DOG, light=True), medium="features"))
    assert sorted(name for name, teacher in teachers.items() if teacher.requests) == heard


async def test_a_refused_update_keeps_the_old_model() -> None:
    """The gate's reason is the query's, and nothing is adopted."""
    accuracy = (ClassAccuracy(DOG, 0.0, 0.1, "estimate", asked=True),)
    classroom = Classroom(FakeLearner(Validation(False, "dog reached 10%", accuracy)))
    kennel(classroom)
    outcome = await classroom.learn(query(DOG))
    assert (outcome.outcome, outcome.reason, outcome.model_version) == ("refused", "dog reached 10%", 0)
    assert outcome.accuracy == accuracy
    assert "adopt" not in classroom.learner.steps


async def test_an_update_that_a_phase_refuses_keeps_the_old_model() -> None:
    """What the gate need not see is refused all the same, and not failed."""
    refusal = UpdateRefusedError("nobody teaches cat now", fix="qkt-node peers")
    classroom = Classroom(FakeLearner(failures={"phase1": refusal}))
    kennel(classroom)
    outcome = QueryOutcome(query(DOG))
    with pytest.raises(UpdateRefusedError, match="nobody teaches cat"):
        await classroom.run(outcome)
    assert (outcome.outcome, outcome.reason, outcome.model_version) == (
        "refused",
        "nobody teaches cat now",
        0,
    )
    assert classroom.learner.steps[-1] == "phase1"


async def test_a_trial_keeps_the_old_model(classroom: Classroom) -> None:
    """Everything is measured as if it were for real."""
    kennel(classroom)
    outcome = await classroom.learn(query(DOG, trial=True))
    assert (outcome.outcome, outcome.accuracy, outcome.model_version) == ("accepted", ACCEPTED.accuracy, 0)
    assert "adopt" not in classroom.learner.steps


@pytest.mark.parametrize("step", ["probe", "collect", "phase1", "phase2", "validate"])
def test_a_deadline_ends_a_query_in_any_step(step: str) -> None:
    """The owner is told which step took too long, and teachers are not left at work."""
    classroom = Classroom(FakeLearner(hangs_in=step))
    teacher = kennel(classroom, hangs_in={"collect": "teach"}.get(step, step))
    outcome = QueryOutcome(query(DOG, deadline=20))
    with pytest.raises(DeadlineError, match=f"the deadline of 20 s passed in step {step}") as caught:
        run_in_virtual_time(classroom.run(outcome))
    assert "--deadline" in caught.value.fix
    assert (outcome.outcome, outcome.model_version) == ("failed", 0)
    assert list(outcome.seconds)[-1] == step
    assert teacher.ended.is_set()


def test_a_model_that_was_judged_in_time_is_adopted_whole() -> None:
    """A deadline that passes while the model is saved leaves no half-adopted query."""
    classroom = Classroom(FakeLearner(hangs_in="adopt"))
    kennel(classroom)
    outcome = QueryOutcome(query(DOG, deadline=20))

    async def adopt_late() -> None:
        running = asyncio.ensure_future(classroom.run(outcome))
        await classroom.learner.began.wait()
        assert outcome.outcome == "failed"
        await asyncio.wait([running], timeout=30)
        assert not running.done()
        classroom.learner.release.set()
        await running

    run_in_virtual_time(adopt_late())
    assert (outcome.outcome, outcome.model_version) == ("accepted", 2)


@pytest.mark.parametrize("step", ["probe", "teach"])
async def test_cancelling_a_query_ends_its_teachers_work(classroom: Classroom, step: str) -> None:
    """Ctrl-C is heard on the other side too."""
    teachers = [classroom.add(name, FakeTeacher({DOG: 1.0}, hangs_in=step)) for name in ("a", "b")]
    running = asyncio.ensure_future(classroom.learn(query(DOG)))
    for teacher in teachers:
        await teacher.began.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert all(teacher.ended.is_set() for teacher in teachers)
    assert classroom.learner.steps == (["stem"] if step == "teach" else [])


@pytest.mark.parametrize("step", ["stem", "check", "phase1", "phase2", "validate", "adopt"])
async def test_a_learner_that_fails_fails_the_query(step: str) -> None:
    """An error of this node is not blamed on a teacher, and other streams are ended."""
    error = ConfigError("the disk is full")
    classroom = Classroom(FakeLearner(failures={step: error}))
    kennel(classroom)
    if step == "check":
        other = classroom.add("other", FakeTeacher({DOG: 1.0}, hangs_in="teach"))
    outcome = QueryOutcome(query(DOG))
    with pytest.raises(QktError) as caught:
        await classroom.run(outcome)
    assert caught.value is error
    assert outcome.outcome == "failed"
    if step == "check":
        assert other.ended.is_set()


async def test_bytes_are_those_of_this_query(classroom: Classroom) -> None:
    """Links live longer than queries; a second query does not pay for the first."""
    kennel(classroom)
    first = await classroom.learn(query(DOG))
    classroom.shelf.held.clear()
    second = await classroom.learn(query(DOG))
    assert first.bytes_sent == second.bytes_sent > 0
    assert first.bytes_received == second.bytes_received > 0
    ((_, link),) = classroom.links
    assert link.bytes_received == first.bytes_received + second.bytes_received


async def test_a_failed_query_tells_what_it_cost(classroom: Classroom) -> None:
    """Bytes, seconds and evidence are there to explain it."""
    kennel(classroom)
    outcome = QueryOutcome(query(CAT))
    with pytest.raises(QktError):
        await classroom.run(outcome)
    data = outcome.as_data()
    assert (data["outcome"], data["masks"]) == ("failed", {peer_of("kennel"): {"dog": 1.0}})
    assert data["bytes_sent"] > 0
    assert data["bytes_received"] > 0
    assert data["mean_query_accuracy"] == {"before": None, "after": None}


async def test_the_data_of_a_query_are_what_the_contract_says(classroom: Classroom) -> None:
    """Every key that scripts rely on is there, and nothing that is not documented."""
    kennel(classroom)
    outcome = await classroom.learn(query(DOG, seed=9))
    data = outcome.as_data()
    assert data.keys() == QUERY_KEYS | ADDITIONS
    assert data["seconds"].keys() == {*STEPS, "total"}
    assert data["accuracy"]["dog"] == {"before": 0.0, "after": 0.5, "measured_on": "estimate", "asked": True}
    assert data["mean_query_accuracy"] == {"before": 0.0, "after": 0.5}
    assert data["mean_local_accuracy"] == {"before": 1.0, "after": 0.75}
    assert (data["mode"], data["medium"], data["seed"]) == ("qkt", "features", 9)
    assert (data["outcome"], data["reason"], data["model_version"]) == ("accepted", "learned", 2)
    assert data["peer_names"] == {peer_of("kennel"): "kennel"}
    assert data["quorum"] == {"asked": 1, "reached": {"dog": 1}}
    (teacher,) = data["teachers"]
    assert teacher.keys() == TEACHER_CONTRACT | TEACHER_ADDITIONS
    assert (teacher["peer"], teacher["classes"], teacher["weight"]) == (peer_of("kennel"), ["dog"], 1.0)
    assert data["seconds"]["total"] == round(sum(outcome.seconds.values()), 3)
