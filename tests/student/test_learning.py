"""A student learns real digits that it never saw, from teachers it finds by their masks."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from statistics import fmean

import pytest
import torch

from qkt_p2p.outcome import STEPS, QueryOutcome
from qkt_p2p.student import Student
from qkt_p2p.types import Chunk, ChunkInfo, ClassName, TeachEnd, TeachOffer, TeachPart, TeachRequest
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


async def learn(classroom: Classroom, node: DigitsNode, seed: int) -> tuple[QueryOutcome, DigitsLearner]:
    learner = DigitsLearner(node, classroom.shelf)
    student = Student(learner, classroom.shelf, samples_per_class=SETTINGS.samples_per_class, probes=512)
    outcome = QueryOutcome(query(ASKED, seed=seed, deadline=100))
    await student.learn(outcome, node.model, links=classroom.links, progress=classroom.progress.append)
    return outcome, learner


def noise(request: TeachRequest) -> Parts:
    """Return a response whose bytes are as offered, and no numbers."""
    data = bytes(64)
    info = ChunkInfo(sha256(data).digest(), len(data), 1)
    return [TeachOffer(request.medium, 1, request.classes, (info,)), Chunk(0, data), TeachEnd(1)]


async def test_a_class_is_learned_from_synthetic_batches(nodes: dict[str, DigitsNode]) -> None:
    """The asked class rises from nothing, the own classes stay, and who taught what is known."""
    classroom = Classroom()
    for name in ("four", "six", "one"):
        classroom.add(name, DigitsTeacher({}, teacher=nodes[name].teacher))
    classroom.add("noise", FakeTeacher({ASKED: 1.0}, response=noise))
    outcome, learner = await learn(classroom, nodes["student"], seed=1)
    assert (outcome.outcome, outcome.model_version) == ("accepted", 2)
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
