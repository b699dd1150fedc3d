"""A student learns real digits that it never saw, from teachers it finds by their masks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import pytest
import torch

from qkt_p2p.digests import chunk_digest
from qkt_p2p.distillation import LearningSettings
from qkt_p2p.errors import PeerRefusedError
from qkt_p2p.outcome import STEPS, QueryOutcome
from qkt_p2p.student import Student
from qkt_p2p.types import Chunk, ChunkInfo, ClassName, PeerId, TeachEnd, TeachOffer, TeachPart, TeachRequest
from tests.student.classroom import Classroom, FakeTeacher, peer_of, query
from tests.student.digits import SETTINGS, DigitsLearner, DigitsNode, DigitsTeacher, accuracies

Parts = list[TeachPart | BaseException]

OWN, ASKED = "269", ClassName("4")


@pytest.fixture
def nodes() -> Iterator[dict[str, DigitsNode]]:
    """The student, a teacher of the class asked for, one of a known class, and one of neither."""
    held = {"student": OWN, "four": "40", "six": "63", "one": "17"}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # models this small are slower on several
    yield {name: DigitsNode.trained(classes, seed=at) for at, (name, classes) in enumerate(held.items())}
    torch.set_num_threads(threads)


async def learn(
    classroom: Classroom,
    node: DigitsNode,
    *,
    settings: LearningSettings = SETTINGS,
    **changes: Any,
) -> tuple[QueryOutcome, DigitsLearner]:
    learner = DigitsLearner(node, classroom.shelf, settings)
    student = Student(learner, classroom.shelf, samples_per_class=SETTINGS.samples_per_class, probes=512)
    outcome = QueryOutcome(replace(query(ASKED, deadline=100), **changes))
    await student.learn(outcome, node.model, links=classroom.links, progress=classroom.progress.append)
    return outcome, learner


def noise(request: TeachRequest) -> Parts:
    """Return a response whose bytes are as offered, and no numbers."""
    data = bytes(64)
    info = ChunkInfo(chunk_digest(data), len(data), 1)
    return [TeachOffer(request.medium, 1, request.classes, (info,)), Chunk(0, data), TeachEnd(1)]


@dataclass
class BreakingTeacher(DigitsTeacher):
    """Sends the first recipe of its response, and refuses the others."""

    async def teach(self, caller: PeerId, request: TeachRequest) -> AsyncGenerator[TeachPart]:
        async with aclosing(super().teach(caller, request)) as parts:
            yield await anext(parts)
            yield await anext(parts)
        raise PeerRefusedError("no more today")


@pytest.mark.parametrize("medium", ["features", "moments"])
async def test_a_class_is_learned_from_a_part_of_a_response(
    nodes: dict[str, DigitsNode], medium: str
) -> None:
    """One recipe of two came: its class is learned as if it alone had been asked for."""
    classroom, teacher = Classroom(), DigitsNode.trained("46", seed=9).teacher
    classroom.add("both", BreakingTeacher({}, teacher=teacher))
    outcome, learner = await learn(classroom, nodes["student"], medium=medium)
    both = outcome.teachers[peer_of("both")]
    assert (both.used, both.classes, both.missing) == (True, (ASKED,), ("6",))
    assert outcome.outcome == "accepted"
    assert accuracies(learner.adopted[0], OWN + ASKED)[ASKED] >= 0.9


@pytest.mark.parametrize("medium", ["features", "moments"])
async def test_a_class_is_learned_from_synthetic_batches(nodes: dict[str, DigitsNode], medium: str) -> None:
    """The asked class rises from nothing, the own classes stay, and who taught what is known."""
    classroom = Classroom()
    for name in ("four", "six", "one"):
        classroom.add(name, DigitsTeacher({}, teacher=nodes[name].teacher))
    classroom.add("noise", FakeTeacher({ASKED: 1.0}, response=noise))
    outcome, learner = await learn(classroom, nodes["student"], medium=medium)
    assert (outcome.outcome, outcome.model_version, outcome.medium) == ("accepted", 2, medium)
    before = accuracies(nodes["student"].classifier, OWN)
    after = accuracies(learner.adopted[0], OWN + ASKED)
    assert after[ASKED] >= 0.9
    assert fmean(after[name] for name in before) >= fmean(before.values()) - 0.04
    taught = {teacher.name: (teacher.used, teacher.classes) for teacher in outcome.teachers.values()}
    assert taught == {
        "four": (True, (ASKED,)),
        "six": (True, ("6",)),
        "one": (False, ()),
        "noise": (False, (ASKED,)),
    }
    assert "is not safetensors" in outcome.teachers[peer_of("noise")].reason
    assert outcome.teachers[peer_of("four")].weight == 1
    assert {event.step for event in classroom.progress} == set(STEPS) - {"discover"}


async def test_a_light_query_costs_less(nodes: dict[str, DigitsNode]) -> None:
    """Fewer teachers are asked, for fewer axes; fewer bytes come, and the class is learned all the same."""
    outcomes = {}
    settings = replace(SETTINGS, phase1_steps=300, phase2_steps=150)
    for light in (False, True):
        classroom = Classroom()
        teachers = {
            name: classroom.add(name, DigitsTeacher({}, teacher=nodes[name].teacher))
            for name in ("four", "six")
        }
        outcome, learner = await learn(classroom, nodes["student"], settings=settings, light=light)
        outcomes[light] = outcome
        assert outcome.outcome == "accepted"
        assert [len(each.requests) for each in teachers.values()] == ([1, 0] if light else [1, 1])
        assert accuracies(learner.adopted[0], OWN + ASKED)[ASKED] >= 0.8
    assert outcomes[True].bytes_received < 0.7 * outcomes[False].bytes_received
    assert outcomes[True].as_data()["mode"] == "light"


async def test_a_teacher_of_one_medium_decides_for_it(nodes: dict[str, DigitsNode]) -> None:
    """Who knows the class teaches by inversion alone; that is what is asked for, and it is learned."""
    classroom = Classroom()
    classroom.add("four", DigitsTeacher({}, teacher=nodes["four"].teacher, media=("inversion", "noise")))
    classroom.add("six", DigitsTeacher({}, teacher=nodes["six"].teacher, media=("features",)))
    outcome, learner = await learn(classroom, nodes["student"])
    assert (outcome.medium, outcome.outcome) == ("inversion", "accepted")
    assert outcome.teachers[peer_of("six")].reason == "does not teach in the medium inversion"
    assert accuracies(learner.adopted[0], OWN + ASKED)[ASKED] >= 0.8
