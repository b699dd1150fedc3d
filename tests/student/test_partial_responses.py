"""Responses that break off for good: the classes that arrived whole are used, and the others are named."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace

import pytest

from qkt_p2p.asking.retry import USUAL_PATIENCE
from qkt_p2p.errors import (
    DeadlineError,
    NotTrustedError,
    PeerBusyError,
    PeerError,
    PeerRefusedError,
    PeerUnavailableError,
    QktError,
)
from qkt_p2p.identity.authority import create_authority
from qkt_p2p.outcome import QueryOutcome
from qkt_p2p.student import Student
from qkt_p2p.types import Chunk, PeerId, TeachOffer, TeachPart, TeachRequest, TransferRecord
from tests.student.classroom import (
    CAT,
    CHUNK_BYTES,
    DOG,
    MODEL,
    OWL,
    QUICK,
    SAMPLES,
    Classroom,
    FakeLearner,
    FakeTeacher,
    honest,
    peer_of,
    query,
)
from tests.student.library import CountingShelf, MemorySite, TlsSite
from tests.student.school import NO_STALL, School, used
from tests.transport.members import join


@dataclass
class BreakingTeacher(FakeTeacher):
    """Sends `chunks` chunks `every` so many seconds, then fails, or hangs where there is no failure.

    Its chunks are its `own`: what another teacher sends is not the same.
    """

    chunks: int = 1
    every: float = 0.0
    failure: QktError | None = None
    own: int = 1
    hanging: asyncio.Event = field(default_factory=asyncio.Event)

    async def teach(self, caller: PeerId, request: TeachRequest) -> AsyncGenerator[TeachPart]:
        self.requests.append(request)
        offer, *parts = honest(replace(request, seed=self.own))
        assert isinstance(offer, TeachOffer)
        yield offer
        for part in parts[: max(0, self.chunks - (len(offer.chunks) - len(parts[:-1])))]:
            await asyncio.sleep(self.every)
            assert not isinstance(part, BaseException)
            yield part
        if self.failure is not None:
            raise self.failure
        await self.hanging.wait()


@pytest.mark.parametrize(
    "failure",
    [
        PeerUnavailableError("gone"),
        PeerRefusedError("no more"),
        PeerBusyError("not now", retry_after=0.001),
    ],
    ids=["vanishes", "refuses", "is busy"],
)
async def test_what_arrived_of_a_teacher_that_fails_is_used(classroom: Classroom, failure: QktError) -> None:
    """The class that came whole is learned, and the outcome says which did not, and why."""
    classroom.add("kennel", BreakingTeacher({DOG: 1.0, OWL: 1.0}, failure=failure))
    classroom.add("farm", FakeTeacher({OWL: 1.0}))
    outcome = await classroom.learn(query(DOG, OWL))
    kennel = outcome.teachers[peer_of("kennel")]
    assert (kennel.used, kennel.classes, kennel.missing) == (True, (DOG,), (OWL,))
    assert (kennel.samples, kennel.chunks, kennel.bytes) == (SAMPLES, 1, CHUNK_BYTES)
    assert failure.message in kennel.reason
    assert kennel.vanished == isinstance(failure, PeerUnavailableError)
    assert outcome.taught_by == {DOG: 1, OWL: 1}
    assert classroom.learner.task is not None
    assert classroom.learner.task.evidence[peer_of("kennel")] == {DOG: 1.0}
    shown = {teacher["name"]: teacher for teacher in outcome.as_data()["teachers"]}
    assert (shown["kennel"]["classes"], shown["kennel"]["missing"]) == ([DOG], [OWL])
    assert shown["farm"]["missing"] == []


async def test_nothing_is_used_of_a_liar(classroom: Classroom) -> None:
    """One good chunk does not make up for a bad one."""

    def lying(request: TeachRequest) -> list[TeachPart | BaseException]:
        offer, good, *_ = honest(replace(request, seed=1))
        return [offer, good, Chunk(1, b"something else")]

    classroom.add("kennel", FakeTeacher({DOG: 1.0, OWL: 1.0}, response=lying))
    classroom.add("farm", FakeTeacher({DOG: 1.0, OWL: 1.0}))
    outcome = await classroom.learn(query(DOG, OWL))
    kennel = outcome.teachers[peer_of("kennel")]
    assert (kennel.used, kennel.misbehaved, kennel.chunks) == (False, True, 1)


async def test_nothing_is_used_of_one_that_is_no_member_any_more(classroom: Classroom) -> None:
    """Whoever was expelled in the midst of its answer taught nothing."""
    expelled = NotTrustedError("no member any more")
    classroom.add("kennel", BreakingTeacher({DOG: 1.0, CAT: 1.0}, failure=expelled))
    with pytest.raises(PeerError, match=r"no teacher is left for dog.*no member any more"):
        await classroom.learn(query(DOG))


async def test_what_arrived_is_checked_before_it_is_used(classroom: Classroom) -> None:
    """Half a response may be as bad as a whole one."""
    classroom.learner = FakeLearner(unusable={peer_of("kennel"): "not numbers"})
    classroom.add("kennel", BreakingTeacher({DOG: 1.0, OWL: 1.0}, failure=PeerRefusedError("no more")))
    classroom.add("farm", FakeTeacher({DOG: 1.0}))
    outcome = await classroom.learn(query(DOG))
    kennel = outcome.teachers[peer_of("kennel")]
    assert (kennel.used, kennel.misbehaved) == (False, True)


async def test_media_that_travel_as_one_file_are_used_whole_alone(classroom: Classroom) -> None:
    """Of a file that was cut into pieces no class can be read before the last one is here."""
    classroom.add("kennel", BreakingTeacher({CAT: 1.0, DOG: 1.0}, failure=PeerRefusedError("no more")))
    asked = replace(query(DOG), medium="weights")
    with pytest.raises(PeerError, match="no teacher is left for dog"):
        await classroom.learn(asked)


async def test_a_stand_in_is_asked_for_what_is_missing_alone(classroom: Classroom) -> None:
    """What the failed teacher of a light query sent whole need not be taught again."""
    classroom.add("best", BreakingTeacher({DOG: 1.0, OWL: 1.0}, failure=PeerRefusedError("no more")))
    other = classroom.add("next", FakeTeacher({DOG: 0.9, OWL: 0.9}))
    outcome = await classroom.learn(replace(query(DOG, OWL, light=True), medium="moments"))
    assert [request.classes for request in other.requests] == [(OWL,)]
    assert {each.name: each.classes for each in outcome.teachers.values()} == {"best": (DOG,), "next": (OWL,)}


@pytest.mark.parametrize("line", ["memory", "tls"])
async def test_what_arrived_of_a_teacher_that_is_killed_is_used(
    line: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """It does not come back: what it sent over the real line lies in the store, and is learned from."""
    teacher, shelf = BreakingTeacher({CAT: 1.0, DOG: 1.0}), CountingShelf()
    authority = create_authority("hospitals.example")
    site: MemorySite | TlsSite = (
        MemorySite(teacher)
        if line == "memory"
        else TlsSite(teacher, *(join(authority, tmp_path_factory.mktemp("member")) for _ in range(2)))
    )
    await site.start()
    outcome = QueryOutcome(replace(query(DOG), classes=(CAT,)))
    student = Student(FakeLearner(), shelf, samples_per_class=SAMPLES, probes=64, patience=QUICK)
    learning = asyncio.ensure_future(
        student.learn(outcome, MODEL, links=[("kennel", site.link)], progress=lambda _: None)
    )
    await shelf.until(1)
    await site.stop()
    await learning
    (kennel,) = outcome.teachers.values()
    assert (kennel.classes, kennel.used, kennel.chunks) == ((CAT,), True, 1)
    assert outcome.outcome == "accepted"


@pytest.fixture
def school() -> School:
    return School(patience=USUAL_PATIENCE, deadlines=NO_STALL)


def test_the_deadline_ends_with_the_best_that_arrived(school: School) -> None:
    """Each class has a teacher once the parts are counted: nobody waits for the rest of the deadline."""
    school.add("kennel", BreakingTeacher({DOG: 1.0, CAT: 1.0}, chunks=2, every=1.0))
    school.add("farm", BreakingTeacher({OWL: 1.0, CAT: 1.0}, every=1.0, own=2))
    found = school.query(query(DOG, OWL, deadline=100))
    assert used(found) == {"kennel", "farm"}
    assert {name: (each.classes, each.missing) for name, each in found.items()} == {
        "kennel": ((DOG, CAT), ()),
        "farm": ((OWL,), (CAT,)),
    }
    assert found["farm"].cut == "deadline"
    assert school.now == pytest.approx(50.0, abs=0.5)
    assert school.learner.steps[-1] == "adopt"


def test_a_class_that_arrives_late_is_enough_at_once(school: School) -> None:
    """Once the time for learning has begun, the chunk that completes the quorum ends the wait."""
    school.add("kennel", BreakingTeacher({DOG: 1.0, CAT: 1.0}, every=70.0))
    found = school.query(query(DOG, deadline=100))
    assert (found["kennel"].classes, found["kennel"].missing) == ((DOG,), (CAT,))
    assert school.now == pytest.approx(70.0)


@pytest.mark.parametrize("quorum", [1, 2])
def test_parts_do_not_lower_the_quorum(school: School, quorum: int) -> None:
    """A class of which too few teachers sent all is waited for until the deadline itself."""
    school.add("kennel", BreakingTeacher({DOG: 1.0, OWL: 1.0}))
    school.add("farm", BreakingTeacher({DOG: 1.0, OWL: 1.0}, chunks=2 - quorum, own=2))
    asked = replace(query(DOG, deadline=100) if quorum == 2 else query(DOG, OWL, deadline=100), quorum=quorum)
    with pytest.raises(DeadlineError, match="passed in step collect"):
        school.query(asked)
    assert school.now == pytest.approx(100.0)


def test_what_arrived_of_a_straggler_is_used(school: School) -> None:
    """It is cut because the class has its teacher; what it had sent by then teaches as well."""
    school.add("slow", BreakingTeacher({DOG: 1.0, CAT: 1.0}))
    school.add("quick", FakeTeacher({DOG: 1.0}))
    school.remember("slow", *[TransferRecord(1.0, 10_000_000, 1.0)] * 3)
    found = school.query(query(DOG, deadline=1000))
    assert (found["slow"].cut, found["slow"].used) == ("slow", True)
    assert (found["slow"].classes, found["slow"].missing) == ((DOG,), (CAT,))


def test_a_part_that_cannot_be_used_is_replaced_near_the_deadline(school: School) -> None:
    """The query does not end with a part that turns out to be useless while somebody else is left to ask."""
    school.learner = FakeLearner(unusable={peer_of("best"): "not numbers"})
    school.add("best", BreakingTeacher({DOG: 1.0, CAT: 1.0}))
    school.add("next", FakeTeacher({DOG: 0.9}))
    found = school.query(replace(query(DOG, light=True, deadline=100), medium="moments"))
    assert used(found) == {"next"}
    assert (found["best"].misbehaved, found["best"].reason) == (True, "not numbers")
    assert school.now == pytest.approx(50.0, abs=0.5)
