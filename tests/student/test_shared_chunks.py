"""Teachers that offer the same chunk: it travels once, whoever falls away, and nobody waits for ever."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import pytest

from qkt_p2p import limits
from qkt_p2p.asking.claims import Claims
from qkt_p2p.asking.retry import ENDLESS, USUAL_PATIENCE
from qkt_p2p.digests import chunk_digest
from qkt_p2p.errors import PeerError, PeerUnavailableError
from qkt_p2p.identity.authority import create_authority
from qkt_p2p.outcome import QueryOutcome, TeacherOutcome
from qkt_p2p.seams import TeacherLink
from qkt_p2p.student import Student
from qkt_p2p.types import Chunk, ChunkInfo, ClassName, PeerId, TeachEnd, TeachOffer, TeachPart, TeachRequest
from tests.student.classroom import (
    CAT,
    DOG,
    MODEL,
    OWL,
    QUICK,
    SAMPLES,
    Classroom,
    FakeLearner,
    FakeTeacher,
    peer_of,
    query,
)
from tests.student.library import CountingShelf, TlsSite
from tests.student.school import NO_STALL, School, used
from tests.transport.members import join

BANK = {name: f"what is known of {name}".encode() * 100 for name in (CAT, DOG, OWL)}
ALIKE = {DOG: 0.9, CAT: 0.8, OWL: 0.07}
"""Evidence that only copies of one model share."""


@dataclass
class BankTeacher(FakeTeacher):
    """Teaches what its bank says of each class, a chunk `every` so many seconds; counts what it sends.

    It breaks off after each number of chunks in `breaks`.
    """

    bank: Mapping[ClassName, bytes] = field(default_factory=lambda: dict(BANK))
    every: float = 0.0
    offer_after: float = 0.0
    breaks: list[int] = field(default_factory=list)
    sent: Counter[bytes] = field(default_factory=Counter)

    async def teach(self, caller: PeerId, request: TeachRequest) -> AsyncGenerator[TeachPart]:
        self.requests.append(request)
        await asyncio.sleep(self.offer_after)
        data = [self.bank[name] for name in request.classes]
        infos = tuple(ChunkInfo(chunk_digest(each), len(each), request.samples_per_class) for each in data)
        yield TeachOffer(request.medium, 1, request.classes, infos)
        wanted = (
            [] if request.offer_only else [at for at, i in enumerate(infos) if i.digest not in request.held]
        )
        for number, at in enumerate(wanted):
            if [number] == self.breaks[:1]:
                self.breaks.pop(0)
                raise PeerUnavailableError("gone")
            await asyncio.sleep(self.every)
            self.sent[data[at]] += 1
            yield Chunk(at, data[at])
        yield TeachEnd(len(wanted))


@dataclass
class QuickAgain(BankTeacher):
    """Makes its bank once: only its first offer takes time."""

    async def teach(self, caller: PeerId, request: TeachRequest) -> AsyncGenerator[TeachPart]:
        async with aclosing(super().teach(caller, request)) as parts:
            async for part in parts:
                self.offer_after = 0.0
                yield part


def put(classroom: Classroom, name: str, teacher: BankTeacher) -> BankTeacher:
    classroom.add(name, teacher)
    return teacher


def sent_by(*teachers: BankTeacher) -> Counter[bytes]:
    return sum((teacher.sent for teacher in teachers), Counter())


async def test_a_chunk_of_two_teachers_is_sent_once(classroom: Classroom) -> None:
    """Copies of one model show it by their evidence: nothing is sent before both offers are compared."""
    teachers = [put(classroom, name, BankTeacher(ALIKE)) for name in ("vet", "farm")]
    outcome = await classroom.learn(query(DOG))
    assert sent_by(*teachers) == {BANK[CAT]: 1, BANK[DOG]: 1}
    assert {each.name for each in outcome.teachers.values() if each.used} == {"vet", "farm"}
    assert {each.samples for each in outcome.teachers.values()} == {2 * SAMPLES}
    assert sorted(each.chunks for each in outcome.teachers.values()) == [0, 2]
    assert sorted(each.held_chunks for each in outcome.teachers.values()) == [0, 2]
    assert len({each.digest for each in outcome.teachers.values()}) == 1


async def test_it_is_so_over_real_connections(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is under way when a stream ends would count: there is nothing under way."""
    authority, teachers = create_authority("hospitals.example"), [BankTeacher(ALIKE) for _ in range(2)]
    asker = join(authority, tmp_path_factory.mktemp("asker"))
    sites = [TlsSite(each, asker, join(authority, tmp_path_factory.mktemp("member"))) for each in teachers]
    for site in sites:
        await site.start()
    outcome, shelf = QueryOutcome(query(DOG)), CountingShelf()
    student = Student(FakeLearner(), shelf, samples_per_class=SAMPLES, probes=64, patience=QUICK)
    links: Sequence[tuple[str, TeacherLink]] = [(f"{at}", site.link) for at, site in enumerate(sites)]
    await student.learn(outcome, MODEL, links=links, progress=lambda _: None)
    for site in sites:
        await site.stop()
    assert sent_by(*teachers) == {BANK[CAT]: 1, BANK[DOG]: 1}
    assert all(each.used for each in outcome.teachers.values())


async def test_without_telling_evidence_the_offer_ends_the_stream(classroom: Classroom) -> None:
    """Sure models look alike: the second stream ends at its offer, and only what is missing is asked for."""
    sure = {DOG: 1.0, CAT: 1.0}
    teachers = [
        put(classroom, "vet", BankTeacher(sure)),
        put(classroom, "farm", BankTeacher(sure, bank={**BANK, DOG: b"another dog"})),
    ]
    outcome = await classroom.learn(query(DOG))
    assert sorted(len(each.requests) for each in teachers) == [1, 2]
    assert all(each.used for each in outcome.teachers.values())
    assert sent_by(*teachers)[BANK[DOG]] == sent_by(*teachers)[b"another dog"] == 1


async def test_the_other_one_takes_over_what_did_not_come(classroom: Classroom) -> None:
    """The teacher that was bringing all goes away for good: the rest, and no more, comes from its copy."""
    known = {DOG: 0.9, CAT: 0.8, OWL: 0.7}
    goes = put(classroom, "goes", BankTeacher(known, breaks=[1, 0, 0]))
    stays = put(classroom, "stays", BankTeacher(known, offer_after=0.001))
    outcome = await classroom.learn(query(DOG, OWL))
    assert set(sent_by(goes, stays).values()) == {1}
    assert outcome.teachers[peer_of("stays")].used
    assert outcome.teachers[peer_of("stays")].samples == 3 * SAMPLES
    assert sum(each.chunks for each in outcome.teachers.values()) == 3


async def test_teachers_that_share_in_a_ring_all_end(classroom: Classroom) -> None:
    """Each offers what its neighbour offers, too: nobody waits for one that waits for it."""
    known = {CAT: b"first", DOG: b"second", OWL: b"third"}
    mixed = [{CAT: "first", DOG: "second"}, {CAT: "second", DOG: "third"}, {CAT: "third", DOG: "first"}]
    banks = [{name: word.encode() for name, word in bank.items()} for bank in mixed]
    teachers = [
        put(classroom, name, BankTeacher({DOG: 0.9, CAT: 0.8}, bank=bank))
        for name, bank in zip("abc", banks, strict=True)
    ]
    outcome = await classroom.learn(query(DOG))
    assert sent_by(*teachers) == dict.fromkeys(known.values(), 1)
    assert all(each.used for each in outcome.teachers.values())


@dataclass
class OfferingTeacher(FakeTeacher):
    """Offers these chunks at its first request, those at its second and so on, and hangs until released."""

    offers: list[list[bytes]] = field(default_factory=list)
    release: asyncio.Event = field(default_factory=asyncio.Event)

    async def teach(self, caller: PeerId, request: TeachRequest) -> AsyncGenerator[TeachPart]:
        data = self.offers[len(self.requests)]
        self.requests.append(request)
        infos = tuple(ChunkInfo(chunk_digest(each), len(each), 1) for each in data)
        if len(self.requests) == len(self.offers):
            self.release.set()
        yield TeachOffer(request.medium, 1, request.classes, infos)
        await self.release.wait()
        for at, each in enumerate(data):
            yield Chunk(at, each)
        yield TeachEnd(len(data))


async def test_nobody_offers_something_else_for_ever(classroom: Classroom) -> None:
    """A teacher whose every new offer holds what another one sends has broken the protocol."""
    all_of_vet = [f"chunk {at}".encode() for at in range(limits.ATTEMPTS + 1)]
    vet = OfferingTeacher({DOG: 1.0}, offers=[all_of_vet, []])
    offers = [[each, f"offer {at}".encode()] for at, each in enumerate(all_of_vet)]
    classroom.add("vet", vet)
    fickle = classroom.add("fickle", OfferingTeacher({DOG: 1.0}, offers=offers, release=vet.release))
    outcome = await classroom.learn(query(DOG))
    assert {each.name for each in outcome.teachers.values() if each.used} == {"vet"}
    assert len(fickle.requests) == limits.ATTEMPTS + 1
    assert outcome.teachers[peer_of("fickle")].misbehaved


@pytest.fixture
def school() -> School:
    return School(patience=USUAL_PATIENCE, deadlines=NO_STALL)


def test_who_waits_is_not_slow_and_does_not_wait_for_one_that_is(school: School) -> None:
    """The copy that brings the chunks trickles: at its bound the waiting one brings what is missing."""
    school.add("trickles", BankTeacher(ALIKE, every=100.0))
    quick = put(school, "quick", BankTeacher(ALIKE, offer_after=1.0))
    found = school.query(query(DOG, deadline=1000))
    assert used(found) == {"trickles", "quick"}
    assert found["quick"].cut == ""
    assert quick.sent == {BANK[CAT]: 1, BANK[DOG]: 1}
    assert found["trickles"].chunks == 0
    assert school.now <= 2 * limits.STRAGGLER_GRACE_SECONDS + 5
    assert school.said("it is slow, and others send the same")


def test_a_copy_whose_offer_comes_late_is_not_asked_for_what_is_here(school: School) -> None:
    """By then the other one has brought all that it offers: its offer was the only thing it had to send."""
    early = put(school, "early", BankTeacher(ALIKE))
    late = put(school, "late", BankTeacher(ALIKE, offer_after=5.0))
    found = school.query(query(DOG, deadline=1000))
    assert used(found) == {"early", "late"}
    assert [request.offer_only for request in late.requests] == [True]
    assert [request.offer_only for request in early.requests] == [True, False]
    assert (found["late"].samples, found["late"].held_chunks) == (2 * SAMPLES, 2)


def test_a_copy_that_waits_is_not_remembered_as_slow(school: School) -> None:
    """Nothing is told of one that brought nothing; of the other, how long it took to make its answer."""
    school.add("brings", QuickAgain(ALIKE, offer_after=1.0, every=3.0))
    school.add("waits", QuickAgain(ALIKE, offer_after=2.0, every=3.0))
    found = school.query(query(DOG, deadline=1000))
    assert used(found) == {"brings", "waits"}
    assert (found["brings"].chunks, found["waits"].chunks) == (2, 0)
    assert set(school.shelf.transfers) == {peer_of("brings")}
    (record,) = school.shelf.transfers[peer_of("brings")]
    assert record.bytes == found["brings"].bytes
    assert (record.offer_seconds, record.seconds) == pytest.approx((1.0, 6.0))


def test_who_brings_a_part_is_not_remembered_by_what_others_bring(school: School) -> None:
    """Its offer came at once, and its own chunk within a second."""
    mixed = {CAT: b"other" * 20, DOG: BANK[DOG]}
    school.add("slow", BankTeacher({DOG: 0.9, CAT: 0.8}, every=4.0))
    school.add("quick", BankTeacher({DOG: 0.8, CAT: 0.9}, bank=mixed, every=1.0))
    found = school.query(query(DOG, deadline=1000))
    assert (found["slow"].chunks, found["quick"].chunks) == (2, 1)
    (record,) = school.shelf.transfers[peer_of("quick")]
    assert (record.offer_seconds, record.seconds) == pytest.approx((0.0, 1.0))


def test_a_measurement_waits_for_a_slow_copy() -> None:
    """Where nobody counts as slow, each chunk is sent once however long it takes."""
    school = School(patience=ENDLESS, deadlines=NO_STALL)
    teachers = [
        put(school, name, BankTeacher(ALIKE, every=seconds))
        for name, seconds in (("slow", 100.0), ("quick", 1.0))
    ]
    assert used(school.query(query(DOG, deadline=1000))) == {"slow", "quick"}
    assert sent_by(*teachers) == {BANK[CAT]: 1, BANK[DOG]: 1}


def test_a_query_without_its_copies_fails_as_ever(school: School) -> None:
    """Both go away: nobody waits for the other."""
    for name in ("one", "two"):
        school.add(name, BankTeacher(ALIKE, breaks=[0] * 1000))
    with pytest.raises(PeerError, match="no teacher is left for dog"):
        school.query(query(DOG, deadline=1000))


async def test_claims_are_given_up_with_their_stream() -> None:
    """Who waits goes on when a chunk arrives or is free again."""
    claims, teacher = Claims(), TeacherOutcome(peer_of("vet"), "vet")

    class Owner:
        due = float("inf")

        def give_way(self) -> None:
            raise AssertionError(teacher)

    one, two = Owner(), Owner()
    assert claims.claim(one, {b"a", b"b"}) == frozenset()
    assert claims.claim(two, {b"b", b"c"}) == {b"b"}
    waiting = asyncio.ensure_future(claims.settled({b"a", b"b"}))
    claims.arrived(b"a")
    await asyncio.sleep(0)
    assert not waiting.done()
    claims.release(one)
    await waiting
    assert claims.claim(two, {b"b"}) == frozenset()
