"""A network that is gone for a while: whom the query waits for then, and for how long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace

import pytest

from qkt_p2p import limits
from qkt_p2p.asking.retry import USUAL_PATIENCE
from qkt_p2p.errors import PeerError, PeerUnavailableError, UnknownClassError
from qkt_p2p.types import Chunk, PeerId, ProbeReport, ProbeRequest, TeachPart, TeachRequest
from tests.student.classroom import CAT, DOG, OWL, FakeTeacher, query
from tests.student.school import NO_STALL, School, used

QUICKLY = sum(min(limits.RETRY_SECONDS[0] * 2**at, limits.RETRY_SECONDS[1]) for at in range(limits.ATTEMPTS))
"""The most that a number of attempts takes."""

LONG = 60.0

ONE_TEACHER = ("moments",)
"""A medium in which a light query asks one teacher of a class."""


@dataclass
class AwayTeacher(FakeTeacher):
    """Cannot be reached before a time; its first stream breaks after `brings` chunks."""

    back_at: float = float("inf")
    brings: int = 0
    probed_from: float = 0.0

    async def probe(self, caller: PeerId, request: ProbeRequest) -> ProbeReport:
        if asyncio.get_running_loop().time() < self.probed_from:
            self.probes.append(request)
            raise PeerUnavailableError("no route to host")
        return await super().probe(caller, request)

    async def teach(self, caller: PeerId, request: TeachRequest) -> AsyncGenerator[TeachPart]:
        self.requests.append(request)
        away, brings = asyncio.get_running_loop().time() < self.back_at, self.brings
        if away and not brings:
            raise PeerUnavailableError("no route to host")
        self.brings = 0
        for part in self.response(request):
            assert not isinstance(part, BaseException)
            if away and isinstance(part, Chunk):
                if not brings:
                    raise PeerUnavailableError("no route to host")
                brings -= 1
            yield part


@pytest.fixture
def school() -> School:
    return School(patience=USUAL_PATIENCE, deadlines=NO_STALL)


def test_a_network_that_is_gone_when_the_query_begins_costs_seconds(school: School) -> None:
    """Nobody answers, so it may be this node's; it is back after a while, and all are asked."""
    for name in ("one", "two"):
        school.add(name, AwayTeacher({DOG: 1.0}, back_at=0.0, probed_from=5.0))
    found = school.query(query(DOG, deadline=1000))
    assert used(found) == {"one", "two"}
    assert 5.0 <= school.now <= limits.CALL_SECONDS


def test_whoever_does_not_answer_is_not_waited_for_where_others_do(school: School) -> None:
    """The network is there: one that is away now is away for long, and its owner hears of it at once."""
    gone = school.add("gone", AwayTeacher({DOG: 1.0}, probed_from=LONG))
    school.add("other", FakeTeacher({CAT: 1.0}))
    with pytest.raises(UnknownClassError, match=r"no live peer can teach 'dog'.*gone failed"):
        school.query(query(DOG, deadline=1000))
    assert (len(gone.probes), school.now <= limits.RETRY_SECONDS[0]) == (2, True)


def test_a_query_that_reaches_nobody_fails_soon(school: School) -> None:
    """Not after minutes: with whom to begin is a person's question then."""
    school.add("gone", AwayTeacher({DOG: 1.0}, probed_from=LONG))
    with pytest.raises(UnknownClassError, match=r"gone failed: .*no route to host"):
        school.query(query(DOG, deadline=1000))
    assert school.now <= limits.CALL_SECONDS


@pytest.mark.parametrize("light", [False, True])
@pytest.mark.parametrize("brings", [0, 1])
def test_the_only_teacher_of_a_class_may_be_away_for_a_while(
    school: School, *, light: bool, brings: int
) -> None:
    """It is asked again until it is back, now and then, and what had come does not come again."""
    away = school.add("away", AwayTeacher({DOG: 1.0, OWL: 0.9}, back_at=LONG, brings=brings))
    school.add("other", FakeTeacher({CAT: 1.0}))
    found = school.query(query(DOG, OWL, deadline=1000, light=light))
    assert "away" in used(found)
    assert (found["away"].chunks, found["away"].reason) == (2, "")
    assert limits.ATTEMPTS < len(away.requests) < 2 * LONG
    assert LONG <= school.now <= LONG + limits.RETRY_SECONDS[1]


def test_it_is_not_waited_for_for_ever(school: School) -> None:
    """After a time it is given up, long before a deadline of hours, and the query says why it failed."""
    school.add("away", AwayTeacher({DOG: 1.0}))
    with pytest.raises(PeerError, match=r"no teacher is left for dog .*no route to host"):
        school.query(query(DOG, deadline=10_000))
    assert limits.AWAY_SECONDS <= school.now <= limits.AWAY_SECONDS + limits.RETRY_SECONDS[1]
    assert school.found["away"].vanished


def test_nobody_is_waited_for_in_the_time_that_learning_takes(school: School) -> None:
    """The deadline does not pass in vain: its owner hears what is missing, and hears it earlier."""
    school.add("away", AwayTeacher({DOG: 1.0}))
    with pytest.raises(PeerError, match="no teacher is left for dog"):
        school.query(query(DOG, deadline=100))
    assert 50.0 <= school.now <= 50.0 + limits.RETRY_SECONDS[1]


def test_a_teacher_that_another_can_replace_is_given_up_soon(school: School) -> None:
    """A light query asks the next best instead, as ever."""
    away = school.add("away", AwayTeacher({DOG: 1.0}, media=ONE_TEACHER))
    school.add("next", FakeTeacher({DOG: 0.9}, media=ONE_TEACHER))
    found = school.query(query(DOG, deadline=1000, light=True))
    assert (used(found), len(away.requests)) == ({"next"}, limits.ATTEMPTS)
    assert school.now <= QUICKLY


def test_the_last_one_that_can_stand_in_is_waited_for(school: School) -> None:
    """This node lost its network: after those who could be replaced comes one who cannot, and then all do."""
    best = school.add("best", AwayTeacher({DOG: 1.0}, back_at=LONG, media=ONE_TEACHER))
    last = school.add("last", AwayTeacher({DOG: 0.9}, back_at=LONG, media=ONE_TEACHER))
    assert used(school.query(query(DOG, deadline=1000, light=True)))
    assert min(len(best.requests), len(last.requests)) > limits.ATTEMPTS
    assert LONG <= school.now <= LONG + limits.RETRY_SECONDS[1]


def test_a_teacher_that_was_given_up_is_called_back_when_its_stand_in_is_away(school: School) -> None:
    """It rebooted; who stood in for it is gone for good."""
    school.add("best", AwayTeacher({DOG: 1.0, OWL: 1.0}, back_at=LONG, brings=1, media=ONE_TEACHER))
    school.add("last", AwayTeacher({DOG: 0.9, OWL: 0.9}, media=ONE_TEACHER))
    found = school.query(query(DOG, OWL, deadline=1000, light=True))
    assert (used(found), found["best"].chunks, found["best"].missing) == ({"best"}, 2, ())
    assert LONG <= school.now <= LONG + 2 * limits.RETRY_SECONDS[1] + limits.STRAGGLER_GRACE_SECONDS


def test_each_is_called_back_once(school: School) -> None:
    """Two that stay away do not call for each other until the deadline."""
    school.add("best", AwayTeacher({DOG: 1.0}, media=ONE_TEACHER))
    school.add("last", AwayTeacher({DOG: 0.9}, media=ONE_TEACHER))
    with pytest.raises(PeerError, match="no teacher is left for dog"):
        school.query(query(DOG, deadline=10_000, light=True))
    assert school.now <= 3 * limits.AWAY_SECONDS


def test_nobody_is_called_back_who_broke_the_protocol(school: School) -> None:
    """Of one that lies nothing is believed, whoever else is away."""
    liar = school.add("liar", FakeTeacher({DOG: 1.0}, response=lambda _: [], media=ONE_TEACHER))
    school.add("last", AwayTeacher({DOG: 0.9}, back_at=LONG, media=ONE_TEACHER))
    assert used(school.query(query(DOG, deadline=1000, light=True))) == {"last"}
    assert (len(liar.requests), school.found["liar"].misbehaved) == (1, True)


def test_when_all_are_away_all_are_waited_for(school: School) -> None:
    """Nobody replaces another who is away as well; once the class has its teacher, the rest is given up."""
    school.add("one", AwayTeacher({DOG: 1.0}, back_at=LONG / 2))
    school.add("two", AwayTeacher({DOG: 0.9}, back_at=LONG / 2))
    school.add("gone", AwayTeacher({DOG: 0.8}))
    found = school.query(query(DOG, deadline=1000))
    assert used(found) == {"one", "two"}
    assert school.now <= LONG / 2 + 2 * limits.RETRY_SECONDS[1] + limits.STRAGGLER_GRACE_SECONDS


def test_a_quorum_counts_more_than_one_teacher(school: School) -> None:
    """One of three that is away is missed where the owner wants three, not where two are enough."""
    for name in ("a", "b"):
        school.add(name, FakeTeacher({DOG: 1.0}))
    school.add("away", AwayTeacher({DOG: 1.0}, back_at=LONG))
    assert used(school.query(replace(query(DOG, deadline=1000), quorum=3))) == {"a", "b", "away"}


def test_what_is_only_not_to_be_forgotten_is_not_waited_for(school: School) -> None:
    """Of what was asked for each class has its teacher; the student knows the other class itself."""
    away = school.add("away", AwayTeacher({CAT: 1.0}))
    school.add("kennel", FakeTeacher({DOG: 1.0}))
    assert used(school.query(query(DOG, deadline=1000))) == {"kennel"}
    assert len(away.requests) <= limits.ATTEMPTS
    assert school.now <= QUICKLY


def test_a_class_that_came_whole_before_the_line_broke_is_not_waited_for(school: School) -> None:
    """Its teacher has brought what was asked for; only what the student knows already is missing."""
    away = school.add("away", AwayTeacher({DOG: 1.0, CAT: 1.0}, brings=1))
    found = school.query(query(DOG, deadline=1000))
    assert (used(found), found["away"].classes, found["away"].missing) == ({"away"}, (DOG,), (CAT,))
    assert len(away.requests) == limits.ATTEMPTS
