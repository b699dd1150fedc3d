"""Who is waited for, who takes over, and when it is enough: on a clock that jumps to whatever is due next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace

import pytest

from qkt_bench.network.virtual_time import run_in_virtual_time
from qkt_p2p import limits
from qkt_p2p.asking.retry import ENDLESS, USUAL_PATIENCE
from qkt_p2p.errors import (
    DeadlineError,
    NotTrustedError,
    PeerBusyError,
    PeerError,
    PeerRefusedError,
    PeerUnavailableError,
    QktError,
)
from qkt_p2p.outcome import QueryOutcome
from qkt_p2p.types import (
    MEDIA,
    PeerId,
    ProbeReport,
    ProbeRequest,
    TeachPart,
    TeachRequest,
    TeachWait,
    TransferRecord,
)
from tests.student.classroom import (
    CAT,
    CHUNK_BYTES,
    DOG,
    FOX,
    MODEL,
    OWL,
    FakeLearner,
    FakeTeacher,
    peer_of,
    query,
)
from tests.student.school import NO_STALL, School, used


@dataclass
class SlowTeacher(FakeTeacher):
    """Waits before its offer and before each later part; `fails` are the errors of its first attempts."""

    offer_after: float = 0.0
    part_after: float = 0.0
    fails: list[QktError] = field(default_factory=list)

    async def teach(self, caller: PeerId, request: TeachRequest) -> AsyncGenerator[TeachPart]:
        self.requests.append(request)
        try:
            await asyncio.sleep(self.offer_after)
            if self.fails:
                raise self.fails.pop(0)
            for part in self.response(request):
                assert not isinstance(part, BaseException)
                yield part
                await asyncio.sleep(self.part_after)
        finally:
            self.ended.set()


@pytest.fixture
def school() -> School:
    return School(patience=USUAL_PATIENCE, deadlines=NO_STALL)


QUICK_BEFORE = [TransferRecord(1.0, 10_000_000, 1.0)] * 3
SLOW_BEFORE = [TransferRecord(100.0, 10_000_000, 200.0)] * 3


def test_a_straggler_is_cut_once_the_class_has_its_teacher(school: School) -> None:
    """One that answered within a second before and now needs minutes is not waited for; the owner is told."""
    slow = school.add("slow", SlowTeacher({DOG: 1.0}, offer_after=120.0))
    school.add("quick", SlowTeacher({DOG: 1.0}, offer_after=1.0))
    school.remember("slow", *QUICK_BEFORE)
    found = school.query(query(DOG, deadline=1000))
    assert (used(found), found["slow"].cut) == ({"quick"}, "slow")
    assert "slower than it was before: no offer after 10.0 s" in found["slow"].reason
    assert school.now == pytest.approx(limits.STRAGGLER_GRACE_SECONDS)
    assert school.said("slow: cut, because each class has its teachers")
    assert slow.ended.is_set()
    assert school.shelf.transfers[peer_of("slow")][-1].offer_seconds == pytest.approx(10.0)


def test_a_teacher_that_was_always_slow_is_waited_for(school: School) -> None:
    """The bound is each peer's own."""
    school.add("slow", SlowTeacher({DOG: 1.0}, offer_after=120.0))
    school.add("quick", SlowTeacher({DOG: 1.0}, offer_after=1.0))
    school.remember("slow", *SLOW_BEFORE)
    found = school.query(query(DOG, deadline=1000))
    assert (used(found), found["slow"].cut, found["slow"].reason) == ({"quick", "slow"}, "", "")


def test_a_stranger_has_the_default_bounds(school: School) -> None:
    """Nothing is known of it: it may take as long for its offer as a slow machine does."""
    school.add("slow", SlowTeacher({DOG: 1.0}, offer_after=120.0))
    school.add("quick", SlowTeacher({DOG: 1.0}))
    found = school.query(query(DOG, deadline=1000))
    assert "slower than teachers may be" in found["slow"].reason
    assert school.now == pytest.approx(limits.STRAGGLER_OFFER_SECONDS)


def test_a_stream_that_becomes_slow_is_cut_too(school: School) -> None:
    """An offer in time does not help one whose bytes come too slowly."""
    school.add("slow", SlowTeacher({DOG: 1.0, CAT: 1.0}, part_after=50.0))
    school.add("quick", SlowTeacher({DOG: 1.0}))
    found = school.query(query(DOG, deadline=1000))
    assert (found["slow"].cut, found["slow"].chunks) == ("slow", 0)
    assert "bytes in 10.0 s" in found["slow"].reason


def test_without_its_quorum_a_class_waits_for_stragglers(school: School) -> None:
    """The only teacher of a class may be as slow as it likes, within the deadline."""
    school.add("slow", SlowTeacher({DOG: 1.0}, offer_after=120.0))
    school.add("other", SlowTeacher({CAT: 1.0}))
    school.remember("slow", *QUICK_BEFORE)
    assert used(school.query(query(DOG, deadline=1000))) == {"slow", "other"}
    assert school.now == pytest.approx(120.0)


def test_a_measurement_waits_for_everybody() -> None:
    """What a bench learns does not depend on how fast its machine is."""
    school = School(patience=ENDLESS, deadlines=NO_STALL)
    school.add("slow", SlowTeacher({DOG: 1.0}, offer_after=900.0))
    school.add("quick", SlowTeacher({DOG: 1.0}))
    assert used(school.query(query(DOG, deadline=1000))) == {"quick", "slow"}


def test_near_the_deadline_the_best_that_arrived_is_enough(school: School) -> None:
    """Half of the deadline is left to learn where nothing is known of how long that takes."""
    school.add("slow", SlowTeacher({DOG: 1.0}, offer_after=900.0))
    school.add("quick", SlowTeacher({DOG: 1.0}))
    school.remember("slow", *SLOW_BEFORE)
    found = school.query(query(DOG, deadline=100))
    assert (used(found), found["slow"].cut) == ({"quick"}, "deadline")
    assert "the deadline is near" in found["slow"].reason
    assert school.now == pytest.approx(50.0, abs=0.5)
    assert school.learner.steps[-1] == "adopt"


def test_the_time_left_to_learn_is_what_it_took_before(school: School) -> None:
    """Half as much again as the longest of the latest queries."""
    school.add("slow", SlowTeacher({DOG: 1.0}, offer_after=900.0))
    school.add("quick", SlowTeacher({DOG: 1.0}))
    school.remember("slow", *SLOW_BEFORE)
    school.shelf.learned = [2.0, 10.0, 4.0]
    school.query(query(DOG, deadline=100))
    assert school.now == pytest.approx(85.0, abs=0.5)


def test_without_a_quorum_the_deadline_ends_the_query(school: School) -> None:
    """There is nothing to go on with."""
    school.add("slow", SlowTeacher({DOG: 1.0}, offer_after=900.0))
    with pytest.raises(DeadlineError, match="the deadline of 100 s passed in step collect"):
        school.query(query(DOG, deadline=100))
    assert school.now == pytest.approx(100.0)


def test_a_quorum_that_is_reached_late_is_enough_at_once(school: School) -> None:
    """After the time for learning has begun nobody else is waited for."""
    school.add("slow", SlowTeacher({DOG: 1.0}, offer_after=900.0))
    school.add("late", SlowTeacher({DOG: 1.0}, offer_after=70.0))
    assert used(school.query(query(DOG, deadline=100))) == {"late"}
    assert school.now == pytest.approx(70.0)


def test_the_quorum_is_of_each_class(school: School) -> None:
    """Two teachers of each class asked for are waited for, the third is not."""
    for name, known, seconds in (
        ("a", {DOG: 1.0, OWL: 1.0}, 1.0),
        ("b", {DOG: 1.0}, 1.0),
        ("c", {OWL: 1.0}, 200.0),
        ("d", {DOG: 1.0, CAT: 1.0}, 900.0),
    ):
        school.add(name, SlowTeacher(known, offer_after=seconds))
    found = school.query(replace(query(DOG, OWL, deadline=1000), quorum=2))
    assert (used(found), found["d"].cut) == ({"a", "b", "c"}, "slow")
    assert school.now == pytest.approx(200.0)


def test_a_query_that_loses_its_quorum_fails(school: School) -> None:
    """One teacher of two is not enough where the owner wants two."""
    school.add("a", SlowTeacher({DOG: 1.0}))
    school.add("b", FakeTeacher({DOG: 1.0}, response=lambda _: []))
    with pytest.raises(PeerError, match="fewer than 2 teachers are left for dog"):
        school.query(replace(query(DOG), quorum=2))


def test_a_quorum_that_nobody_can_reach_is_told_at_once(school: School) -> None:
    """Nobody is asked to teach in vain."""
    teacher = school.add("a", SlowTeacher({DOG: 1.0}))
    told = r"must have 2 teachers, and fewer live peers teach dog \(1\)"
    with pytest.raises(PeerError, match=told) as caught:
        school.query(replace(query(DOG), quorum=2))
    assert "[learning] quorum" in caught.value.fix
    assert teacher.requests == []


def test_a_light_query_asks_as_many_as_its_quorum(school: School) -> None:
    """The three of greatest evidence for each class asked for, two for what is only not to be forgotten."""
    model = replace(MODEL, known=(CAT, FOX))
    for name, evidence in (("a", 0.7), ("b", 0.9), ("c", 0.8), ("d", 0.6)):
        school.add(name, SlowTeacher({DOG: evidence, FOX: evidence}))
    outcome = QueryOutcome(replace(query(DOG, light=True), quorum=3))
    run_in_virtual_time(school.run(outcome, model))
    classes = {teacher.name: teacher.classes for teacher in outcome.teachers.values() if teacher.used}
    assert classes == {"a": (DOG,), "b": (DOG, FOX), "c": (DOG, FOX)}


@pytest.mark.parametrize(
    "failure",
    [PeerRefusedError("no"), NotTrustedError("not you"), PeerUnavailableError("gone")],
    ids=["refuses", "distrusts", "vanishes"],
)
def test_another_teacher_takes_over(school: School, failure: QktError) -> None:
    """A light query asks the next best where those chosen failed."""
    best = school.add("best", SlowTeacher({DOG: 1.0}, fails=[failure] * limits.ATTEMPTS))
    school.add("second", SlowTeacher({DOG: 0.95}, fails=[PeerRefusedError("no")]))
    school.add("third", SlowTeacher({DOG: 0.7}))
    school.add("next", SlowTeacher({DOG: 0.9}))
    found = school.query(query(DOG, light=True))
    assert used(found) == {"next"}
    assert (found["next"].stood_in, found["next"].reason) == (True, "")
    assert "others know better" in found["third"].reason
    assert failure.message in found["best"].reason
    assert len(best.requests) == (limits.ATTEMPTS if isinstance(failure, PeerUnavailableError) else 1)
    assert school.said("next stands in for dog")


def test_a_response_that_is_not_usable_is_replaced(school: School) -> None:
    """It came whole, and says nothing that can be learned from."""
    school.learner = FakeLearner(unusable={peer_of("best"): "not numbers"})
    school.add("best", SlowTeacher({DOG: 1.0}))
    school.add("next", SlowTeacher({DOG: 0.9}))
    found = school.query(query(DOG, light=True))
    assert (used(found), found["best"].misbehaved) == ({"next"}, True)


def test_a_teacher_of_other_classes_takes_over_as_well(school: School) -> None:
    """Where nobody else is left, one that teaches another class is asked for both."""
    school.add("best", SlowTeacher({DOG: 1.0}, fails=[PeerRefusedError("no")], offer_after=5.0))
    school.add("second", SlowTeacher({DOG: 0.95}, fails=[PeerRefusedError("no")], offer_after=5.0))
    other = school.add("other", SlowTeacher({DOG: 0.9, OWL: 1.0}))
    found = school.query(query(DOG, OWL, light=True))
    assert (used(found), found["other"].classes) == ({"other"}, (OWL, DOG))
    assert [request.classes for request in other.requests] == [(OWL,), (OWL, DOG)]
    assert len(other.requests[1].held) == 1
    assert found["other"].chunks == 2


def test_one_that_is_at_work_is_asked_again_when_it_has_ended(school: School) -> None:
    """No peer teaches twice at a time."""
    school.add("best", SlowTeacher({DOG: 1.0}, fails=[PeerRefusedError("no")]))
    school.add("second", SlowTeacher({DOG: 0.95}, fails=[PeerRefusedError("no")]))
    other = school.add("other", SlowTeacher({DOG: 0.9, OWL: 1.0}, offer_after=20.0))
    found = school.query(query(DOG, OWL, light=True, deadline=1000))
    assert [request.classes for request in other.requests] == [(OWL,), (OWL, DOG)]
    assert used(found) == {"other"}
    assert school.now == pytest.approx(40.0)


def test_a_class_that_nobody_else_teaches_fails_the_query(school: School) -> None:
    """Each peer is asked for a class once."""
    for name in ("a", "b"):
        school.add(name, FakeTeacher({DOG: 1.0}, response=lambda _: []))
    with pytest.raises(PeerError, match="no teacher is left for dog"):
        school.query(query(DOG, light=True))
    assert [teacher.attempts for teacher in school.found.values()] == [1, 1]


def test_a_busy_teacher_is_asked_again_when_it_says(school: School) -> None:
    """Its pause is kept, and up to half of it more, so that not all who wait come at once."""
    busy = [PeerBusyError("come again", retry_after=20.0) for _ in range(7)]
    teacher = school.add("kennel", SlowTeacher({DOG: 1.0}, fails=[*busy]))
    found = school.query(query(DOG, deadline=1000))
    assert (used(found), found["kennel"].attempts, len(teacher.requests)) == ({"kennel"}, 8, 8)
    assert 7 * 20 <= school.now <= 7 * 30


def test_a_busy_teacher_is_not_waited_for_where_others_taught(school: School) -> None:
    """Its pauses count as its own time, like any other."""
    busy = [PeerBusyError("come again", retry_after=50.0) for _ in range(20)]
    school.add("busy", SlowTeacher({DOG: 1.0}, fails=[*busy]))
    school.add("quick", SlowTeacher({DOG: 1.0}))
    found = school.query(query(DOG, deadline=3000))
    assert (used(found), found["busy"].cut) == ({"quick"}, "slow")
    assert school.now == pytest.approx(limits.STRAGGLER_OFFER_SECONDS)


def test_a_teacher_that_is_away_is_waited_for_shortly_where_others_taught(school: School) -> None:
    """It has the time that a restart takes."""
    away = PeerUnavailableError("refused")
    school.add("away", SlowTeacher({DOG: 1.0}, fails=[away] * 4, offer_after=5.0))
    school.add("quick", SlowTeacher({DOG: 1.0}))
    found = school.query(query(DOG, deadline=3000))
    assert (used(found), found["away"].cut) == ({"quick"}, "slow")
    assert school.now <= 5 + sum(limits.RETRY_SECONDS) + limits.STRAGGLER_GRACE_SECONDS


def test_a_pause_beyond_the_deadline_is_not_waited_for(school: School) -> None:
    """Who is busy for too long is left out at once, and another one takes over."""
    school.add("best", SlowTeacher({DOG: 1.0}, fails=[PeerBusyError("later", retry_after=50.0)]))
    school.add("next", SlowTeacher({DOG: 0.9}))
    assert used(school.query(query(DOG, light=True, deadline=40))) == {"next"}
    assert school.now < 1


def test_a_teacher_cannot_wait_for_ever(school: School) -> None:
    """Signs of life keep a stream alive, up to a bound of their own."""

    class Waiting(SlowTeacher):
        async def teach(self, caller: PeerId, request: TeachRequest) -> AsyncGenerator[TeachPart]:
            while True:
                yield TeachWait(ahead=3)
                await asyncio.sleep(5.0)

    school.add("kennel", Waiting({DOG: 1.0}))
    with pytest.raises(PeerError, match="its answer was still on its way after 600 s"):
        school.query(query(DOG, deadline=3000))
    assert limits.MAX_WAIT_SECONDS < school.now <= limits.MAX_WAIT_SECONDS + 10
    assert school.said("kennel waits, 3 before it")


def test_signs_of_life_are_counted(school: School) -> None:
    """A flood of them is no sign of life."""
    flood = [TeachWait(ahead=0)] * (limits.MAX_WAITS + 1)
    school.add("kennel", FakeTeacher({DOG: 1.0}, response=lambda _: flood))
    with pytest.raises(PeerError, match="no teacher is left"):
        school.query(query(DOG))
    assert school.found["kennel"].misbehaved


def test_a_probe_that_breaks_is_repeated_once(school: School) -> None:
    """A connection that broke a moment ago costs nobody its part in a query."""
    kennel = school.add("kennel", FakeTeacher({DOG: 1.0}, probe_failure=PeerUnavailableError("reset")))
    school.add("other", SlowTeacher({DOG: 1.0}))
    found = school.query(query(DOG))
    assert (used(found), len(kennel.probes)) == ({"other"}, 2)
    assert school.now <= limits.RETRY_SECONDS[0]


@dataclass
class SlowToProbe(SlowTeacher):
    """Answers a probe after some seconds."""

    probe_after: float = 0.0

    async def probe(self, caller: PeerId, request: ProbeRequest) -> ProbeReport:
        await asyncio.sleep(self.probe_after)
        return await super().probe(caller, request)


@pytest.mark.parametrize(("deadline", "ended"), [(1000, limits.PROBE_ENOUGH_SECONDS), (40, 10.0)])
def test_nobody_waits_for_evidence_that_is_not_needed(school: School, deadline: float, ended: float) -> None:
    """Those who answered can teach the class: the last one is left out, and told why."""
    school.add("late", SlowToProbe({DOG: 1.0}, probe_after=50.0))
    school.add("quick", SlowToProbe({DOG: 1.0}))
    found = school.query(query(DOG, deadline=deadline))
    assert (used(found), found["late"].cut) == ({"quick"}, "slow")
    assert "it has not answered the probe" in found["late"].reason
    assert school.now == pytest.approx(ended, abs=0.5)


@pytest.mark.parametrize("quorum", [1, 2])
def test_evidence_that_is_needed_is_waited_for(school: School, quorum: int) -> None:
    """Another class, another medium or a second teacher is worth the wait."""
    school.add("late", SlowToProbe({DOG: 1.0, OWL: 1.0}, probe_after=50.0))
    school.add("quick", SlowToProbe({DOG: 1.0}, media=MEDIA if quorum == 2 else ("noise",)))
    asked = query(DOG, deadline=1000) if quorum == 2 else query(DOG, OWL, deadline=1000)
    assert "late" in used(school.query(replace(asked, quorum=quorum)))
    assert school.now == pytest.approx(50.0)


def test_a_measurement_waits_for_all_evidence() -> None:
    """Who is slow to answer takes part."""
    school = School(patience=ENDLESS, deadlines=NO_STALL)
    school.add("late", SlowToProbe({DOG: 1.0}, probe_after=50.0))
    school.add("quick", SlowToProbe({DOG: 1.0}))
    assert used(school.query(query(DOG, deadline=1000))) == {"late", "quick"}


def test_how_a_response_came_is_remembered(school: School) -> None:
    """Seconds until the offer, bytes and their seconds, of what travelled."""
    school.add("kennel", SlowTeacher({DOG: 1.0, CAT: 1.0}, offer_after=3.0, part_after=0.5))
    school.query(query(DOG))
    (record,) = school.shelf.transfers[peer_of("kennel")]
    assert record.bytes == 2 * CHUNK_BYTES
    assert [record.offer_seconds, record.seconds] == pytest.approx([3.0, 2.0])
