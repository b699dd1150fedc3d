"""A light query over real connections: the one teacher of a class fails, and the next best is asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace

import pytest

from qkt_p2p.errors import PeerBusyError, PeerRefusedError, QktError
from qkt_p2p.identity.authority import create_authority
from qkt_p2p.outcome import QueryOutcome
from qkt_p2p.student import Student
from qkt_p2p.types import PeerId, TeachPart, TeachRequest
from tests.student.classroom import (
    CHUNK_BYTES,
    DOG,
    MODEL,
    QUICK,
    SAMPLES,
    FakeLearner,
    FakeTeacher,
    query,
)
from tests.student.library import CountingShelf, TlsSite
from tests.transport.members import join


@dataclass
class FailingTeacher(FakeTeacher):
    """Offers, and fails before its only chunk; without a failure it hangs there until it is killed."""

    failure: QktError | None = None
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def teach(self, caller: PeerId, request: TeachRequest) -> AsyncGenerator[TeachPart]:
        self.requests.append(request)
        offer = self.response(replace(request, seed=1))[0]
        assert not isinstance(offer, BaseException)
        yield offer
        self.asked.set()
        if self.failure is not None:
            raise self.failure
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    "failure",
    [
        None,
        PeerRefusedError("no more of this today"),
        PeerBusyError("this node is stopping", retry_after=0.1),
    ],
    ids=["is killed", "refuses", "stops"],
)
async def test_the_next_best_teacher_is_asked(
    tmp_path_factory: pytest.TempPathFactory, failure: QktError | None
) -> None:
    """Whatever became of the best one; the third is left alone."""
    authority = create_authority("hospitals.example")
    asker = join(authority, tmp_path_factory.mktemp("asker"))
    best = FailingTeacher({DOG: 1.0}, failure=failure)
    teachers = {"best": best, "next": FakeTeacher({DOG: 0.9}), "third": FakeTeacher({DOG: 0.7})}
    sites = {
        name: TlsSite(teacher, asker, join(authority, tmp_path_factory.mktemp(name)))
        for name, teacher in teachers.items()
    }
    for site in sites.values():
        await site.start()
    outcome = QueryOutcome(replace(query(DOG, light=True), medium="moments"))
    student = Student(FakeLearner(), CountingShelf(), samples_per_class=SAMPLES, probes=64, patience=QUICK)
    links = [(name, site.link) for name, site in sites.items()]
    learning = asyncio.ensure_future(student.learn(outcome, MODEL, links=links, progress=lambda _: None))
    await best.asked.wait()
    if failure is None:
        await sites["best"].stop()
    await learning
    found = {each.name: each for each in outcome.teachers.values()}
    assert {name for name, each in found.items() if each.used} == {"next"}
    assert (found["next"].stood_in, found["next"].bytes) == (True, CHUNK_BYTES)
    assert found["best"].reason
    assert teachers["third"].requests == []
    for site in sites.values():
        await site.stop()
