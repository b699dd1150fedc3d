"""A stream that breaks is taken up again: from the same teacher, with only what is missing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import pytest

from qkt_p2p.asking.retry import Patience
from qkt_p2p.digests import chunk_digest
from qkt_p2p.errors import PeerError, PeerUnavailableError, QktError
from qkt_p2p.identity.authority import create_authority
from qkt_p2p.limits import CHUNKS_UNDER_WAY
from qkt_p2p.outcome import QueryOutcome
from qkt_p2p.store.journal import Journal
from qkt_p2p.student import Student
from qkt_p2p.types import Chunk, ChunkInfo, PeerId, Query, QueryId, TeachOffer, TeachPart, TeachRequest
from tests.student.classroom import DOG, MODEL, QUICK, SAMPLES, FakeLearner, FakeTeacher, query
from tests.student.library import (
    CHUNKS,
    CountingShelf,
    Library,
    MemorySite,
    Site,
    TlsSite,
    contents,
    library,
)
from tests.transport.members import join

TENTHS = [CHUNKS * tenth // 10 for tenth in range(1, 10)]


class WatchedJournal(Journal):
    """Says when a number of chunks came."""

    def __init__(self, path: Path, chunks: int) -> None:
        super().__init__(path)
        self.came = asyncio.Event()
        self._missing = chunks

    def save_chunks(self, query_id: QueryId, source: str, chunks: Sequence[tuple[bytes, Chunk]]) -> None:
        super().save_chunks(query_id, source, chunks)
        self._missing -= len(chunks)
        if not self._missing:
            self.came.set()


@pytest.fixture
def books() -> Library:
    return library()


@pytest.fixture(params=["memory", "tls"])
async def site(
    request: pytest.FixtureRequest, books: Library, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Site]:
    authority = create_authority("hospitals.example")
    found: MemorySite | TlsSite = (
        MemorySite(books)
        if request.param == "memory"
        else TlsSite(books, *(join(authority, tmp_path_factory.mktemp("member")) for _ in range(2)))
    )
    await found.start()
    yield found
    await found.stop()


@pytest.fixture
def shelf() -> CountingShelf:
    return CountingShelf()


async def learn(
    site: Site,
    store: CountingShelf | Journal,
    asked: Query | None = None,
    patience: Patience = QUICK,
    *,
    outcome: QueryOutcome | None = None,
) -> QueryOutcome:
    outcome = outcome or QueryOutcome(asked or query(DOG))
    student = Student(FakeLearner(), store, samples_per_class=SAMPLES, probes=64, patience=patience)
    await student.learn(
        outcome, MODEL, links=[("library", site.link)], progress=lambda _: None, keep=lambda _: None
    )
    return outcome


@pytest.mark.parametrize("cut", TENTHS)
async def test_a_stream_that_is_cut_goes_on_with_what_is_missing(
    site: Site, books: Library, shelf: CountingShelf, cut: int
) -> None:
    """Wherever its teacher is killed and started again, each chunk travels once."""
    books.stops.add(cut)
    learning = asyncio.ensure_future(learn(site, shelf))
    assert await books.reached.get() == cut
    await shelf.until(cut)
    await site.restart()
    outcome = await learning
    (teacher,) = outcome.teachers.values()
    assert set(shelf.came.values()) == set(books.sent.values()) == {1}
    assert (len(shelf.came), teacher.chunks, teacher.held_chunks) == (CHUNKS, CHUNKS, cut)
    assert (teacher.attempts, teacher.used, teacher.reason) == (2, True, "")
    assert teacher.samples == SAMPLES
    assert teacher.held_bytes + sum(map(len, contents()[cut:])) == teacher.bytes
    assert len(books.requests[0].held) == 0
    assert set(books.requests[1].held) == {chunk_digest(data) for data in contents()[:cut]}


async def test_what_is_lost_with_its_teacher_is_sent_again(
    site: Site, books: Library, shelf: CountingShelf
) -> None:
    """It is killed at once, with chunks under way perhaps: those it sends twice, what came never again."""
    books.stops.add(CHUNKS // 2)
    learning = asyncio.ensure_future(learn(site, shelf))
    await books.reached.get()
    await site.restart()
    (teacher,) = (await learning).teachers.values()
    assert (len(shelf.came), set(shelf.came.values()), teacher.used) == (CHUNKS, {1}, True)
    held = set(books.requests[1].held)
    twice = {chunk_digest(data) for data, times in books.sent.items() if times > 1}
    assert held.isdisjoint(twice)
    assert held | twice == {chunk_digest(data) for data in contents()[: CHUNKS // 2]}


async def test_each_attempt_that_brings_something_begins_the_count_anew(
    site: Site, books: Library, shelf: CountingShelf
) -> None:
    """A stream that breaks nine times, more often than anybody is asked in vain, comes whole."""
    books.stops.update(TENTHS)
    assert len(TENTHS) > QUICK.attempts
    learning = asyncio.ensure_future(learn(site, shelf))
    for cut in TENTHS:
        assert await books.reached.get() == cut
        await shelf.until(cut)
        await site.restart()
    (teacher,) = (await learning).teachers.values()
    assert set(shelf.came.values()) == set(books.sent.values()) == {1}
    assert (teacher.chunks, teacher.attempts) == (CHUNKS, len(TENTHS) + 1)


@pytest.mark.parametrize("cut", [1, CHUNKS // 2, CHUNKS])
async def test_an_asker_that_is_killed_goes_on_from_its_journal(
    site: Site, books: Library, tmp_path: Path, cut: int
) -> None:
    """What came lies on disk; after the restart only the rest is sent, nothing where nothing misses."""
    books.stops.add(cut)
    with closing(WatchedJournal(tmp_path / "state.sqlite", cut)) as journal:
        learning = asyncio.ensure_future(learn(site, journal))
        await journal.came.wait()
        learning.cancel()
        await asyncio.wait([learning])
    with closing(Journal(tmp_path / "state.sqlite")) as journal:
        (teacher,) = (await learn(site, journal)).teachers.values()
        assert b"".join(
            data for _, data in journal.load_chunks(query(DOG).query_id, teacher.peer)
        ) == b"".join(contents())
    assert set(books.sent.values()) == {1}
    assert (teacher.chunks, teacher.held_chunks, teacher.used) == (CHUNKS, cut, True)
    assert len(books.requests) == (1 if cut == CHUNKS else 2)


async def test_a_teacher_whose_model_changed_meanwhile_offers_anew(
    site: Site, books: Library, shelf: CountingShelf
) -> None:
    """What it offers now counts; what is held of that is kept, and the rest is not part of the response."""
    books.stops.add(15)
    learning = asyncio.ensure_future(learn(site, shelf))
    await books.reached.get()
    await shelf.until(15)
    books.data = contents(model=2)
    await site.restart()
    (teacher,) = (await learning).teachers.values()
    assert set(shelf.came.values()) == {1}
    assert (teacher.held_chunks, teacher.chunks, teacher.samples) == (10, 25, SAMPLES)
    digests = [chunk_digest(data) for data in contents(model=2)]
    assert [info.digest for info in shelf.offers[teacher.peer].chunks] == digests
    assert teacher.digest == sha256(b"".join(digests)).hexdigest()


async def test_a_teacher_that_stays_away_is_given_up(
    site: Site, books: Library, shelf: CountingShelf
) -> None:
    """Attempts that bring nothing are counted, and the reason is the last one's."""
    books.stops.add(3)
    outcome = QueryOutcome(query(DOG))
    student = Student(FakeLearner(), shelf, samples_per_class=SAMPLES, probes=64, patience=QUICK)
    learning = asyncio.ensure_future(
        student.learn(
            outcome, MODEL, links=[("library", site.link)], progress=lambda _: None, keep=lambda _: None
        )
    )
    for _ in range(QUICK.attempts):
        await books.reached.get()
        await shelf.until(3)
        books.stops.add(3)
        await site.restart()
    with pytest.raises(PeerError, match="no teacher is left for dog"):
        await learning
    (teacher,) = outcome.teachers.values()
    assert (teacher.attempts, teacher.chunks, teacher.vanished) == (QUICK.attempts, 3, True)


@dataclass
class Fickle(FakeTeacher):
    """Offers something else each time, and goes away before the last chunk, or hangs at its `stops`."""

    stops: set[int] = field(default_factory=set)
    reached: asyncio.Event = field(default_factory=asyncio.Event)

    async def teach(self, caller: PeerId, request: TeachRequest) -> AsyncGenerator[TeachPart]:
        self.requests.append(request)
        data = [f"chunk {at} of {len(self.requests)}".encode().ljust(100) for at in range(10)]
        infos = tuple(
            ChunkInfo(chunk_digest(each), len(each), SAMPLES * (not at)) for at, each in enumerate(data)
        )
        yield TeachOffer(request.medium, 1, request.classes, infos)
        for at, each in enumerate(data[:-1]):
            yield Chunk(at, each)
        if len(self.requests) in self.stops:
            self.reached.set()
            await asyncio.Event().wait()
        raise PeerUnavailableError("gone")


@pytest.mark.parametrize(
    ("cap", "most"), [("MAX_RESPONSE_BYTES", 2000), ("MAX_CHUNKS", 20)], ids=["bytes", "chunks"]
)
async def test_a_disk_is_not_filled_by_new_offers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cap: str, most: int
) -> None:
    """Each attempt brings something, nothing of it is used, and the asker's restart forgets none of it."""
    monkeypatch.setattr(f"qkt_p2p.asking.expected.{cap}", most)
    fickle, database = Fickle({DOG: 1.0}, stops={2}), tmp_path / "state.sqlite"
    site, asked = MemorySite(fickle), query(DOG, deadline=5.0)
    await site.start()
    with closing(Journal(database)) as journal:
        learning = asyncio.ensure_future(learn(site, journal, asked))
        await fickle.reached.wait()
        learning.cancel()
        await asyncio.wait([learning])
    with closing(Journal(database)) as journal:
        outcome = QueryOutcome(asked)
        with pytest.raises(PeerError, match="no teacher is left for dog"):
            await learn(site, journal, outcome=outcome)
        ((source, (chunks, size)),) = journal.held_by_source(asked.query_id).items()
    (teacher,) = outcome.teachers.values()
    assert teacher.misbehaved
    assert "with its new offer it would send" in teacher.reason
    assert (source, chunks, size) == (teacher.peer, teacher.chunks, teacher.bytes)
    # Of four offers 9 chunks came; with the 10 of the fifth they would be more than twice 20.
    assert (len(fickle.requests), chunks, size) == (5, 36, 3600)


class FullJournal(Journal):
    """Has no room for a chunk."""

    def save_chunks(self, query_id: QueryId, source: str, chunks: Sequence[tuple[bytes, Chunk]]) -> None:
        raise QktError("no space left on the device")


async def test_a_disk_that_fails_ends_the_query_at_once(site: Site, books: Library, tmp_path: Path) -> None:
    """Though the teacher sends nothing more for which anybody would look up."""
    books.stops.add(1)
    with closing(FullJournal(tmp_path / "state.sqlite")) as journal:
        with pytest.raises(QktError, match="no space left"):
            await learn(site, journal)
        assert journal.held_digests(query(DOG).query_id) == set()
    assert books.sent.total() == 1


class SlowJournal(Journal):
    """Holds up whoever saves a chunk, or an offer, until it is told to go on."""

    def __init__(self, path: Path, *, holds_up: str = "chunk") -> None:
        super().__init__(path)
        self.saving, self.go_on = threading.Event(), threading.Event()
        self._holds_up = holds_up

    def _wait(self, what: str) -> None:
        if what == self._holds_up:
            self.saving.set()
            assert self.go_on.wait(30)

    def save_offer(self, query_id: QueryId, source: str, offer: TeachOffer) -> None:
        self._wait("offer")
        super().save_offer(query_id, source, offer)

    def save_chunks(self, query_id: QueryId, source: str, chunks: Sequence[tuple[bytes, Chunk]]) -> None:
        self._wait("chunk")
        super().save_chunks(query_id, source, chunks)


async def test_a_slow_disk_holds_up_its_own_stream_alone(site: Site, books: Library, tmp_path: Path) -> None:
    """Other work goes on; whoever gives the query up waits for the disk, and what had come is kept."""
    came = CHUNKS_UNDER_WAY - 1
    books.stops.add(came)
    with closing(SlowJournal(tmp_path / "state.sqlite")) as journal:
        learning = asyncio.ensure_future(learn(site, journal))
        await asyncio.to_thread(journal.saving.wait)
        assert await books.reached.get() == came
        learning.cancel()
        done, _ = await asyncio.wait({learning}, timeout=0.05)
        assert not done
        journal.go_on.set()
        await asyncio.wait({learning})
        assert learning.cancelled()
        held = journal.held_digests(query(DOG).query_id)
    assert held <= {chunk_digest(data) for data in contents()[:came]}
    assert chunk_digest(contents()[0]) in held


async def test_what_comes_while_its_offer_is_being_saved_is_kept(books: Library, tmp_path: Path) -> None:
    """Whoever gives the query up then: those chunks need not come again."""
    site, came = MemorySite(books), CHUNKS_UNDER_WAY - 2
    await site.start()
    books.stops.add(came)
    with closing(SlowJournal(tmp_path / "state.sqlite", holds_up="offer")) as journal:
        learning = asyncio.ensure_future(learn(site, journal))
        await asyncio.to_thread(journal.saving.wait)
        assert await books.reached.get() == came
        learning.cancel()
        journal.go_on.set()
        await asyncio.wait({learning})
        held = journal.held_digests(query(DOG).query_id)
    assert held == {chunk_digest(data) for data in contents()[:came]}
