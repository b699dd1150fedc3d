"""Responses from teachers of every kind: what is not as asked is left out, and the query goes on."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from qkt_p2p.errors import BudgetSpentError, NotTrustedError, PeerRefusedError
from qkt_p2p.transport.client import Deadlines
from qkt_p2p.types import ZSTD, Chunk, ChunkInfo, TeachEnd, TeachOffer, TeachPart, TeachRequest
from tests.student.classroom import (
    CAT,
    CHUNK_BYTES,
    DOG,
    FOX,
    SAMPLES,
    Classroom,
    FakeLearner,
    FakeTeacher,
    Response,
    honest,
    peer_of,
    query,
)

Parts = list[TeachPart | BaseException]


def offer_of(request: TeachRequest) -> TeachOffer:
    part = honest(request)[0]
    assert isinstance(part, TeachOffer)
    return part


def offering(**changes: object) -> Response:
    """Return a response whose offer is changed and whose chunks are as they should be."""
    return lambda request: [replace(offer_of(request), **changes), *honest(request)[1:]]  # type: ignore[arg-type]


def sending(change: Callable[[Parts], Parts]) -> Response:
    """Return a response of which everything after the offer is changed."""
    return lambda request: [offer_of(request), *change(honest(request)[1:])]


def spoilt(parts: Parts) -> Parts:
    first, *rest = parts
    assert isinstance(first, Chunk)
    return [replace(first, data=first.data[::-1]), *rest]


def shortened(parts: Parts) -> Parts:
    first, *rest = parts
    assert isinstance(first, Chunk)
    return [replace(first, data=first.data[:-1]), *rest]


MISBEHAVIOR: dict[str, tuple[Response, str]] = {
    "refuses": (lambda _: [PeerRefusedError("ask again later")], "ask again later"),
    "spent its budget": (lambda _: [BudgetSpentError("nothing more about dog")], "nothing more about dog"),
    "distrusts": (lambda _: [NotTrustedError("not you")], "not you"),
    "fails": (lambda _: [ZeroDivisionError()], "internal error"),
    "fails in its first chunk": (sending(lambda parts: [ZeroDivisionError()]), "internal error"),
    "sends nothing": (lambda _: [], "does not begin with an offer"),
    "sends no offer": (lambda request: honest(request)[1:], "does not begin with an offer"),
    "offers another medium": (offering(medium="weights"), "medium 'weights' was offered, 'features'"),
    "offers other classes": (offering(classes=(DOG, FOX)), "classes were offered that nobody asked for"),
    "offers another encoding": (offering(encoding="lzma"), "the encoding 'lzma' was not asked for"),
    "offers too much": (
        offering(chunks=(ChunkInfo(bytes(32), 20, 2 * SAMPLES + 1),)),
        "21 samples were offered, at most 20 were asked for",
    ),
    "offers nothing": (offering(chunks=()), "chunks: there is none"),
    "offers twice": (lambda request: [offer_of(request), *honest(request)], "a second offer"),
    "sends a chunk beyond its offer": (
        sending(lambda parts: [Chunk(2, b"more"), *parts]),
        "chunk 2 was not offered",
    ),
    "sends a chunk twice": (sending(lambda parts: [parts[0], *parts]), "chunk 0 was .*came twice"),
    "sends other content": (sending(spoilt), "chunk 0 is not what was offered"),
    "sends less content": (sending(shortened), "chunk 0 is not what was offered"),
    "leaves a chunk out": (sending(lambda parts: parts[1:]), "broke off with 1 chunks missing"),
    "leaves the end out": (sending(lambda parts: parts[:-1]), "broke off with 0 chunks missing"),
    "goes on after its end": (sending(lambda parts: [*parts, TeachEnd(0)]), "goes on after its end"),
}


@pytest.mark.parametrize(
    ("response", "reason"), MISBEHAVIOR.values(), ids=[key.replace(" ", "-") for key in MISBEHAVIOR]
)
async def test_a_teacher_that_misbehaves_is_left_out_and_named(
    classroom: Classroom, response: Response, reason: str
) -> None:
    """The query goes on with the others, and the outcome tells who was left out and why."""
    bad = classroom.add("bad", FakeTeacher({CAT: 1.0, DOG: 1.0}, response=response))
    classroom.add("good", FakeTeacher({CAT: 1.0, DOG: 1.0}))
    outcome = await classroom.learn(query(DOG))
    left_out, used = outcome.teachers[peer_of("bad")], outcome.teachers[peer_of("good")]
    assert (left_out.used, used.used, outcome.outcome) == (False, True, "accepted")
    assert re.search(reason, left_out.reason)
    assert used.reason == ""
    assert classroom.learner.task is not None
    assert list(classroom.learner.task.evidence) == [peer_of("good")]
    assert bad.ended.is_set()


async def test_a_response_that_does_not_decode_is_left_out() -> None:
    """Wrong shapes and numbers that are none are found by the learner before anything is trained on."""
    learner = FakeLearner(unusable={peer_of("bad"): "inputs that are not numbers in [0, 1]"})
    classroom = Classroom(learner)
    classroom.add("bad", FakeTeacher({DOG: 1.0}))
    classroom.add("good", FakeTeacher({DOG: 1.0}))
    outcome = await classroom.learn(query(DOG))
    left_out = outcome.teachers[peer_of("bad")]
    assert (left_out.used, left_out.reason) == (False, "inputs that are not numbers in [0, 1]")
    assert left_out.misbehaved
    assert not outcome.teachers[peer_of("good")].misbehaved
    assert outcome.outcome == "accepted"


async def test_a_teacher_that_stalls_is_left_out() -> None:
    """Nobody waits for a teacher until the deadline of the whole query."""
    classroom = Classroom(deadlines=Deadlines(stall=0.05))
    slow = classroom.add("slow", FakeTeacher({DOG: 1.0}, hangs_in="teach", response=voiced(2)))
    classroom.add("good", FakeTeacher({DOG: 1.0}))
    outcome = await classroom.learn(query(DOG))
    assert "nothing arrived for 0.05 s" in outcome.teachers[peer_of("slow")].reason
    assert outcome.outcome == "accepted"
    assert slow.ended.is_set()


async def test_a_teacher_that_vanishes_is_left_out(classroom: Classroom) -> None:
    """It is asked again for as long as patience lasts; what it had sent by then is not used."""
    gone = classroom.add("gone", FakeTeacher({DOG: 1.0}))
    classroom.add("good", FakeTeacher({DOG: 1.0}))

    def vanishing(request: TeachRequest) -> Parts:
        classroom.network.remove(peer_of("gone"))
        return honest(request)

    gone.response = vanishing
    outcome = await classroom.learn(query(DOG))
    assert "nobody serves here" in outcome.teachers[peer_of("gone")].reason
    assert "the connection was closed" in next(
        event.message for event in classroom.progress if "asked again" in event.message
    )
    assert outcome.teachers[peer_of("gone")].vanished
    assert not outcome.teachers[peer_of("gone")].misbehaved
    assert [teacher.used for teacher in outcome.teachers.values()] == [False, True]


async def test_a_teacher_that_fails_its_probe_is_not_asked(classroom: Classroom) -> None:
    """A probe that fails leaves a peer out as a response would."""
    bad = classroom.add("bad", FakeTeacher({DOG: 1.0}, probe_failure=PeerRefusedError("no probes today")))
    classroom.add("good", FakeTeacher({DOG: 1.0}))
    outcome = await classroom.learn(query(DOG))
    assert "no probes today" in outcome.teachers[peer_of("bad")].reason
    assert bad.requests == []


async def test_what_is_kept_is_what_was_taught(classroom: Classroom) -> None:
    """The store holds every offer and chunk, and the outcome says how much each teacher sent."""
    classroom.add("vet", FakeTeacher({CAT: 1.0, DOG: 1.0}))
    outcome = await classroom.learn(query(DOG))
    teacher = outcome.teachers[peer_of("vet")]
    assert (teacher.classes, teacher.samples, teacher.bytes) == ((CAT, DOG), 2 * SAMPLES, 2 * CHUNK_BYTES)
    kept = classroom.shelf.chunks[peer_of("vet")]
    assert [data[:3] for data in kept.values()] == [b"cat", b"dog"]
    assert classroom.shelf.offers[peer_of("vet")].classes == (CAT, DOG)


async def test_what_an_encoding_saves_is_counted(classroom: Classroom) -> None:
    """The outcome tells the bytes that travelled, and how many more they stand for."""

    def encoded(request: TeachRequest) -> Parts:
        offer = offer_of(request)
        first, *others = offer.chunks
        infos = (replace(first, plain_size=first.size + 100), *others)
        return [replace(offer, chunks=infos, encoding=ZSTD), *honest(request)[1:]]

    vet = classroom.add("vet", FakeTeacher({CAT: 1.0, DOG: 1.0}, response=encoded))
    classroom.add("farm", FakeTeacher({DOG: 1.0}))
    data = (await classroom.learn(query(DOG))).as_data()
    assert vet.requests[0].encodings == (ZSTD,)
    shown = {teacher["name"]: teacher for teacher in data["teachers"]}
    assert (shown["vet"]["bytes"], shown["vet"]["bytes_saved"]) == (2 * CHUNK_BYTES, 100)
    assert (shown["vet"]["encoding"], shown["farm"]["encoding"]) == (ZSTD, "")
    assert (shown["farm"]["bytes_saved"], data["bytes_saved"]) == (0, 100)


async def test_chunks_that_are_held_are_not_sent_again(classroom: Classroom) -> None:
    """A query that goes on costs only what is missing, and counts all that it ever received."""
    vet = classroom.add("vet", FakeTeacher({CAT: 1.0, DOG: 1.0}))
    await classroom.learn(query(DOG))
    held = set(classroom.shelf.held)
    classroom.shelf.held.pop(next(iter(held)))
    outcome = await classroom.learn(query(DOG))
    teacher = outcome.teachers[peer_of("vet")]
    assert set(vet.requests[1].held) < held
    assert (teacher.samples, teacher.bytes, teacher.held_bytes) == (
        2 * SAMPLES,
        2 * CHUNK_BYTES,
        CHUNK_BYTES,
    )


async def test_a_held_chunk_that_is_sent_all_the_same_is_refused(classroom: Classroom) -> None:
    """A teacher may not spend the asker's bytes on what it said it has."""
    vet = classroom.add("vet", FakeTeacher({DOG: 1.0, CAT: 1.0}))
    await classroom.learn(query(DOG))
    classroom.shelf.held.popitem()
    classroom.add("good", FakeTeacher({DOG: 1.0}))
    vet.response = lambda request: honest(replace(request, held=()))
    outcome = await classroom.learn(query(DOG))
    assert "held already" in outcome.teachers[peer_of("vet")].reason
    assert outcome.teachers[peer_of("good")].used


def voiced(seed: int) -> Response:
    """Return a response whose chunks are no other teacher's."""
    return lambda request: honest(replace(request, seed=seed))


async def test_progress_counts_the_bytes_of_all_teachers(classroom: Classroom) -> None:
    """One bar goes to its end, held chunks not counted."""
    for at, name in enumerate(("vet", "kennel")):
        own = voiced(at)
        classroom.add(name, FakeTeacher({CAT: 1.0, DOG: 1.0}, response=own))
    await classroom.learn(query(DOG))
    collected = [event for event in classroom.progress if event.step == "collect"][1:]
    assert [event.done for event in collected] == [CHUNK_BYTES * done for done in (1, 2, 3, 4)]
    assert collected[-1].total == 4 * CHUNK_BYTES
    assert {event.message for event in collected} == {"from vet", "from kennel"}
