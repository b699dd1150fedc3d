"""Which teachers are asked for what, and what the owner is told when nobody knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkt_p2p.asking.replacing import stand_ins
from qkt_p2p.asking.selection import Plan, best_teachers
from qkt_p2p.errors import BudgetSpentError, ConfigError, PeerError, PeerRefusedError, UnknownClassError
from qkt_p2p.outcome import QueryOutcome, TeacherOutcome
from qkt_p2p.types import (
    MEDIA,
    ClassName,
    PeerId,
    StudentModel,
    TeachOffer,
    TeachPart,
    TeachRequest,
)
from tests.student.classroom import CAT, DOG, FOX, MODEL, OWL, Classroom, FakeTeacher, honest, peer_of, query
from tests.transport.members import TEACH


async def test_masks_choose_the_teachers(classroom: Classroom) -> None:
    """Each is asked for what it knows, can teach, and the student wants or has; the others are not asked."""
    vet = classroom.add("vet", FakeTeacher({CAT: 0.9, DOG: 0.8, OWL: 0.9, FOX: 0.1}))
    kennel = classroom.add("kennel", FakeTeacher({DOG: 0.9, CAT: 0.95}, unteachable=[CAT]))
    cattery = classroom.add("cattery", FakeTeacher({CAT: 0.9, DOG: 0.2}))
    aviary = classroom.add("aviary", FakeTeacher({OWL: 1.0}))
    outcome = await classroom.learn(query(DOG))
    assert [[request.classes for request in each.requests] for each in (vet, kennel, cattery, aviary)] == [
        [(CAT, DOG)],
        [(DOG,)],
        [(CAT,)],
        [],
    ]
    by_name = {teacher.name: teacher for teacher in outcome.teachers.values()}
    assert {name: teacher.used for name, teacher in by_name.items()} == {
        "vet": True,
        "kennel": True,
        "cattery": True,
        "aviary": False,
    }
    assert by_name["aviary"].reason == "teaches none of the classes wanted"


async def test_classes_learned_earlier_are_asked_for_too(classroom: Classroom) -> None:
    """What a student knows from others is taught again, so that it is not forgotten."""
    aviary = classroom.add("aviary", FakeTeacher({OWL: 1.0, DOG: 1.0}))
    await classroom.learn(query(DOG), StudentModel(3, (1, 8, 8), (CAT,), (CAT, OWL)))
    assert aviary.requests[0].classes == (OWL, DOG)


async def test_a_class_that_was_learned_weakly_is_asked_for_too(classroom: Classroom) -> None:
    """Probes may not find it, and it must be taught all the same: nobody may forget it unawares."""
    aviary = classroom.add("aviary", FakeTeacher({OWL: 1.0, DOG: 1.0}))
    await classroom.learn(query(DOG), StudentModel(3, (1, 8, 8), (CAT,), (CAT,), trained=(CAT, OWL)))
    assert aviary.requests[0].classes == (OWL, DOG)


async def test_the_learner_gets_evidence_and_shares(classroom: Classroom) -> None:
    """All that teachers sent serves both phases; weights are shares of the evidence."""
    classroom.add("vet", FakeTeacher({CAT: 1.0, DOG: 0.75}))
    classroom.add("kennel", FakeTeacher({DOG: 0.75, OWL: 1.0}))
    classroom.add("cattery", FakeTeacher({CAT: 1.0}))
    outcome = await classroom.learn(query(DOG, OWL))
    task = classroom.learner.task
    assert task is not None
    assert task.evidence == {
        peer_of("vet"): {CAT: 1.0, DOG: 0.75},
        peer_of("kennel"): {DOG: 0.75, OWL: 1.0},
        peer_of("cattery"): {CAT: 1.0},
    }
    assert [teacher.weight for teacher in outcome.teachers.values()] == [0.25, 0.75, 0.0]


@pytest.mark.parametrize(
    ("asked", "fix"),
    [
        ("Dog", "did you mean 'dog'?"),
        ("dgo", "did you mean 'dog'?"),
        ("foxes", "did you mean 'Fox'?"),
        ("zebra", "qkt-node peers"),
    ],
)
async def test_an_unknown_class_lists_the_known_and_suggests_a_spelling(
    classroom: Classroom, asked: str, fix: str
) -> None:
    """The owner sees what can be asked for, and what was probably meant."""
    classroom.add("kennel", FakeTeacher({DOG: 0.9, CAT: 0.9, OWL: 0.1}))
    classroom.add("den", FakeTeacher({ClassName("Fox"): 0.9}))
    with pytest.raises(UnknownClassError) as caught:
        await classroom.learn(query(ClassName(asked)))
    assert caught.value.message == f"no live peer can teach {asked!r}; live peers know: Fox, cat, dog"
    assert caught.value.fix == fix
    assert classroom.learner.steps == []


async def test_a_class_that_is_known_but_cannot_be_taught_is_not_promised(classroom: Classroom) -> None:
    """One class of several is enough to stop; the others are not named as missing."""
    classroom.add("kennel", FakeTeacher({DOG: 0.9, OWL: 0.9}, unteachable=[DOG]))
    with pytest.raises(UnknownClassError, match="can teach 'dog', 'fox'; live peers know: dog, owl"):
        await classroom.learn(query(DOG, OWL, FOX))


async def test_without_peers_there_is_nobody_to_ask(classroom: Classroom) -> None:
    """The owner is sent to look at the peers."""
    with pytest.raises(UnknownClassError, match="no live peer to ask") as caught:
        await classroom.learn(query(DOG))
    assert caught.value.fix == "qkt-node peers"


async def test_why_nobody_is_reached_is_told(classroom: Classroom) -> None:
    """Discovery knows it: this node was revoked, or nothing listens there."""
    asked = QueryOutcome(query(DOG), unreached=("peer bert: peer anna is revoked", "10.0.0.1:1: refused"))
    with pytest.raises(UnknownClassError) as caught:
        await classroom.run(asked)
    assert caught.value.message == (
        "there is no live peer to ask: peer bert: peer anna is revoked; 10.0.0.1:1: refused"
    )


async def test_peers_that_failed_to_answer_are_named_with_their_reasons(classroom: Classroom) -> None:
    """A class may be unknown only because those who know it did not answer."""
    classroom.add("kennel", FakeTeacher({DOG: 0.9}, probe_failure=PeerRefusedError("this node is stopping")))
    classroom.add("cattery", FakeTeacher({CAT: 0.9}))
    with pytest.raises(UnknownClassError, match=r"know: cat; kennel failed: .*this node is stopping"):
        await classroom.learn(query(DOG))


async def test_peers_that_were_not_reached_are_named_with_their_reasons(classroom: Classroom) -> None:
    """They are asked nothing, and the owner learns that they might have known."""
    classroom.add("cattery", FakeTeacher({CAT: 0.9}))
    outcome, away = QueryOutcome(query(DOG)), peer_of("kennel")
    outcome.teachers[away] = TeacherOutcome(away, "kennel", reason="it did not attach")
    with pytest.raises(UnknownClassError, match="know: cat; kennel failed: it did not attach"):
        await classroom.run(outcome)


async def test_a_query_without_a_teacher_left_fails_with_every_reason(classroom: Classroom) -> None:
    """When all who know a class are left out, the owner learns why each was."""
    classroom.add("kennel", FakeTeacher({DOG: 0.9}, response=lambda _: [PeerRefusedError("too busy")]))
    classroom.add("pound", FakeTeacher({DOG: 0.9}, response=lambda _: []))
    classroom.add("aviary", FakeTeacher({OWL: 0.9}))
    with pytest.raises(PeerError, match="no teacher is left for dog") as caught:
        await classroom.learn(query(DOG, OWL))
    assert "kennel: " in caught.value.message
    assert "too busy" in caught.value.message
    assert "pound: the response does not begin with an offer" in caught.value.message
    assert classroom.learner.steps == ["stem", "check"]


def noisy(*classes: ClassName) -> Callable[[TeachRequest], Sequence[TeachPart | BaseException]]:
    """Return the response of a teacher that may still release something of `classes`."""

    def response(request: TeachRequest) -> Sequence[TeachPart | BaseException]:
        (offer, *rest) = honest(replace(request, classes=classes))
        assert isinstance(offer, TeachOffer)
        return [replace(offer, epsilon=2.0, delta=1e-6), *rest]

    return response


async def test_spent_budgets_are_told_apart_from_failures(classroom: Classroom) -> None:
    """Whether a teacher may release nothing more, or only not the class asked for."""
    spent = BudgetSpentError("this node's privacy budget of dog is spent")
    classroom.add("kennel", FakeTeacher({DOG: 0.9}, response=lambda _: [spent]))
    classroom.add("vet", FakeTeacher({DOG: 0.9, CAT: 0.9}, response=noisy(CAT)))
    classroom.add("aviary", FakeTeacher({OWL: 0.9}))
    with pytest.raises(BudgetSpentError, match="no teacher is left for dog") as caught:
        await classroom.learn(query(DOG))
    assert "this node's privacy budget of dog is spent" in caught.value.message
    assert "vet: its privacy budget of dog is spent" in caught.value.message
    assert (caught.value.exit_code, "qkt-node budget" in caught.value.fix) == (9, True)


async def test_a_teacher_that_failed_otherwise_might_have_taught(classroom: Classroom) -> None:
    """Then asking again may help, and it is no matter of budgets."""
    classroom.add("kennel", FakeTeacher({DOG: 0.9}, response=lambda _: [BudgetSpentError("spent")]))
    classroom.add("pound", FakeTeacher({DOG: 0.9}, response=lambda _: []))
    with pytest.raises(PeerError, match="no teacher is left for dog"):
        await classroom.learn(query(DOG))


async def test_an_outcome_says_what_was_spent(classroom: Classroom) -> None:
    """By peer, of those that sent something with noise."""
    classroom.add("vet", FakeTeacher({DOG: 0.9}, response=noisy(DOG)))
    classroom.add("aviary", FakeTeacher({OWL: 0.9}))
    outcome = await classroom.learn(query(DOG, OWL))
    assert outcome.as_data()["epsilon_spent"] == {peer_of("vet"): 2.0}


async def test_a_light_query_asks_only_for_what_is_missing(classroom: Classroom) -> None:
    """Own data are not taught again; what was learned from others is, and so is a query class of own data."""
    vet = classroom.add("vet", FakeTeacher({CAT: 1.0, DOG: 1.0, OWL: 1.0}))
    cattery = classroom.add("cattery", FakeTeacher({CAT: 1.0}))
    model = StudentModel(3, (1, 8, 8), (CAT,), (CAT, OWL))
    light = replace(query(DOG, light=True), medium="moments")
    outcome = await classroom.learn(light, model)
    assert [request.classes for request in vet.requests] == [(DOG, OWL)]
    assert cattery.requests == []
    left_out = outcome.teachers[peer_of("cattery")]
    assert (left_out.used, left_out.reason) == (
        False,
        "others know better what is wanted, and the query is light",
    )
    await classroom.learn(replace(light, classes=(CAT,)), model)
    assert vet.requests[1].classes == (CAT, OWL)


@pytest.mark.parametrize(
    ("medium", "expected"),
    [
        ("moments", {"vet": (OWL,), "pound": (DOG,)}),
        ("features", {"vet": (OWL,), "pound": (DOG, OWL), "kennel": (DOG,), "shelter": (CAT,)}),
    ],
)
async def test_a_light_query_asks_few_teachers_for_each_class(
    classroom: Classroom, medium: str, expected: Mapping[str, tuple[ClassName, ...]]
) -> None:
    """Those that show the greatest evidence: one; in features two, and one of each own class."""
    classroom.add("vet", FakeTeacher({CAT: 0.875, DOG: 0.75, OWL: 1.0}))
    classroom.add("kennel", FakeTeacher({CAT: 0.5, DOG: 0.875}))
    classroom.add("shelter", FakeTeacher({CAT: 1.0, DOG: 0.5, OWL: 0.5}))
    classroom.add("pound", FakeTeacher({DOG: 1.0, OWL: 0.75}))
    outcome = await classroom.learn(replace(query(DOG, OWL, light=True), medium=medium))
    taught = {teacher.name: teacher.classes for teacher in outcome.teachers.values() if teacher.used}
    assert taught == expected
    assert classroom.learner.task is not None
    assert classroom.learner.task.evidence[peer_of("vet")][OWL] == 1.0


async def test_a_light_query_asks_the_best_of_those_who_teach_in_the_medium(classroom: Classroom) -> None:
    """Evidence alone would choose a teacher whose medium is worse."""
    vet = classroom.add("vet", FakeTeacher({DOG: 1.0}, media=("noise",)))
    kennel = classroom.add("kennel", FakeTeacher({DOG: 0.9}))
    outcome = await classroom.learn(query(DOG, light=True))
    assert (outcome.medium, len(vet.requests), len(kennel.requests)) == ("features", 0, 1)


async def test_the_best_medium_that_all_query_classes_are_taught_in_is_taken(classroom: Classroom) -> None:
    """Whoever does not teach in it is left out with the reason, although it knows the class."""
    kennel = classroom.add("kennel", FakeTeacher({DOG: 1.0}))
    vet = classroom.add("vet", FakeTeacher({DOG: 1.0, OWL: 1.0}, media=("noise", "inversion")))
    aviary = classroom.add("aviary", FakeTeacher({OWL: 1.0}, media=("moments", "inversion")))
    outcome = await classroom.learn(query(DOG, OWL))
    assert outcome.medium == "moments"
    assert [[request.medium for request in each.requests] for each in (kennel, vet, aviary)] == [
        ["moments"],
        [],
        ["moments"],
    ]
    left_out = outcome.teachers[peer_of("vet")]
    assert (left_out.used, left_out.reason) == (False, "does not teach in the medium moments")
    assert classroom.learner.task is not None
    assert set(classroom.learner.task.evidence) == {peer_of("kennel"), peer_of("aviary")}


async def test_teachers_of_own_classes_do_not_decide_about_the_medium(classroom: Classroom) -> None:
    """Only the classes asked for need a teacher in it."""
    classroom.add("kennel", FakeTeacher({DOG: 1.0}, media=("features",)))
    classroom.add("cattery", FakeTeacher({CAT: 1.0}, media=("moments",)))
    outcome = await classroom.learn(query(DOG))
    assert outcome.medium == "features"
    assert outcome.teachers[peer_of("cattery")].reason == "does not teach in the medium features"


@pytest.mark.parametrize(
    ("medium", "offered", "message", "fix"),
    [
        ("features", ("moments", "noise"), "do not teach in the medium features", "--medium moments"),
        ("weights", (), "do not teach in the medium weights", "qkt-node peers"),
        ("auto", ("telepathy",), "in the medium features or moments or inversion", "qkt-node peers"),
    ],
)
async def test_without_a_common_medium_the_owner_is_told_what_there_is(
    classroom: Classroom, medium: str, offered: tuple[str, ...], message: str, fix: str
) -> None:
    """A class that is known, and cannot be taught in the medium, is no unknown class."""
    teacher = classroom.add("kennel", FakeTeacher({DOG: 1.0}, media=offered))
    with pytest.raises(UnknownClassError, match=f"peers know dog, but .*{message}") as caught:
        await classroom.learn(replace(query(DOG), medium=medium))
    assert caught.value.fix == fix
    assert teacher.requests == []
    assert classroom.learner.steps == []


async def test_auto_goes_on_with_a_medium_that_needs_no_stem(classroom: Classroom) -> None:
    """A model whose stem cannot be written learns in the next best medium, and the owner hears why."""
    kennel = classroom.add("kennel", FakeTeacher({DOG: 1.0}))
    classroom.add("vet", FakeTeacher({DOG: 1.0}, media=("features",)))
    classroom.learner.stemless["features"] = ConfigError("no graph")
    outcome = await classroom.learn(query(DOG))
    assert outcome.medium == "moments"
    assert [(request.medium, request.stem) for request in kennel.requests] == [("moments", b"")]
    assert outcome.teachers[peer_of("vet")].reason == "does not teach in the medium moments"
    assert "not in the medium features: no graph" in [told.message for told in classroom.progress]


@pytest.mark.parametrize("medium", ["features", "auto"])
async def test_without_another_medium_the_stem_decides(classroom: Classroom, medium: str) -> None:
    """One that was asked for by name is not exchanged; nor is there always another one."""
    classroom.add("kennel", FakeTeacher({DOG: 1.0}, media=("features",) if medium == "auto" else MEDIA))
    classroom.learner.stemless["features"] = ConfigError("no graph")
    with pytest.raises(ConfigError, match="no graph"):
        await classroom.learn(replace(query(DOG), medium=medium))


async def test_a_medium_that_does_not_help_is_not_suggested(classroom: Classroom) -> None:
    """Each class is taught, but not all in one medium that this version knows."""
    classroom.add("kennel", FakeTeacher({DOG: 1.0}, media=("inversion",)))
    classroom.add("aviary", FakeTeacher({OWL: 1.0}, media=("moments",)))
    with pytest.raises(UnknownClassError, match="peers know dog, owl, but do not teach") as caught:
        await classroom.learn(replace(query(DOG, OWL), medium="features"))
    assert caught.value.fix == "qkt-node peers"


NAMES = st.sampled_from([CAT, DOG, OWL, FOX])
MASKS = st.dictionaries(st.sampled_from("abcdef").map(peer_of), st.sets(NAMES, min_size=1), min_size=1)


@given(
    MASKS,
    st.integers(1, 3),
    st.lists(st.booleans(), max_size=60),
    st.sampled_from(["", "moments", "features"]),
)
def test_stand_ins_come_to_an_end(
    able: dict[PeerId, set[ClassName]], quorum: int, luck: list[bool], light: str
) -> None:
    """Whoever fails: each request asks for something new, and where a class stays short all were asked."""
    masks = {peer: tuple(sorted(names)) for peer, names in able.items()}
    wanted = sorted({name for names in able.values() for name in names})
    outcome = QueryOutcome(replace(query(*wanted, light=bool(light)), quorum=quorum))
    outcome.medium = light
    for peer, mask in masks.items():
        evidence = {name: 0.5 + 0.01 * len(mask) for name in mask}
        outcome.teachers[peer] = TeacherOutcome(peer, peer, evidence=evidence, classes=mask)
    first = best_teachers(outcome, masks, MODEL) if light else masks
    plan, asked, fates = Plan(TEACH, first, masks), dict[PeerId, set[ClassName]](), iter(luck)
    for teacher in outcome.teachers.values():
        teacher.classes = ()
    new: Mapping[PeerId, tuple[ClassName, ...]] = first
    while new:
        for peer, mask in new.items():
            before = asked.setdefault(peer, set())
            assert not set(mask) <= before
            before.update(mask)
            teacher = outcome.teachers[peer]
            teacher.used = next(fates, False)
            teacher.classes = mask if teacher.used else ()
        new = stand_ins(outcome, plan, asked=asked, running={})
    for name in wanted:
        if outcome.taught_by[name] < quorum:
            could = {peer for peer, mask in masks.items() if name in mask}
            failed = {peer for peer in asked if not outcome.teachers[peer].used}
            assert could <= failed | {peer for peer in asked if name in asked[peer]}
