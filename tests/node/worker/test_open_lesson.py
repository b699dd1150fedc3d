"""What the worker keeps of the query in hand: each response is decoded once, and weighted by each step."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
import zstandard

from qkt_node.home import Home
from qkt_node.settings import NodeConfig
from qkt_node.worker.responses import OpenLesson
from qkt_node.worker.workbench import Workbench
from qkt_p2p.digests import chunk_digest
from qkt_p2p.distillation import Response
from qkt_p2p.errors import CancelledError, ConfigError, ProtocolError
from qkt_p2p.store.journal import Journal
from qkt_p2p.types import Chunk, ChunkInfo, ClassName, PeerId, Query, QueryId, TeachOffer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from qkt_p2p.types import ReportDone

DOG, OWL = ClassName("dog"), ClassName("owl")
QUERY = Query(QueryId("0" * 16), (DOG,), "weights", 1, 10.0)
VET, KENNEL = PeerId("v" * 52), PeerId("k" * 52)


class CountingLesson:
    """Reads four samples out of whatever came, and counts how often."""

    def __init__(self) -> None:
        self.reads: list[str] = []
        self.parts: list[bytes] = []

    def fitting(self, response: Response, taught: int) -> Response:
        """Have room for eight samples."""
        return response.at_most(8 // taught)

    def read(
        self,
        source: str,
        classes: tuple[ClassName, ...],
        parts: Sequence[bytes],
        weights: Mapping[ClassName, float],
        report: ReportDone,
    ) -> Response:
        """Refuse what says so."""
        report(0, 1, "reading")
        self.reads.append(source)
        self.parts += parts
        if b"bad" in parts:
            raise ProtocolError("not usable")
        return Response(source, classes, np.zeros((4, 2), np.float32), np.ones((4, 1), np.float32), weights)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(Journal(tmp_path / "state.sqlite")) as journal:
        journal.start_query(QUERY, 1.0)
        yield journal


@pytest.fixture
def lesson() -> CountingLesson:
    return CountingLesson()


@pytest.fixture
def opened(journal: Journal, lesson: CountingLesson) -> OpenLesson:
    return OpenLesson(journal, QUERY, cast("Any", lesson))


def receive(journal: Journal, peer: PeerId, data: bytes, *, plain_size: int = 0, encoding: str = "") -> None:
    digest = chunk_digest(data)
    offer = TeachOffer("weights", 1, (DOG,), (ChunkInfo(digest, len(data), 4, plain_size),), encoding)
    journal.save_offer(QUERY.query_id, peer, offer)
    journal.save_chunks(QUERY.query_id, peer, [(digest, Chunk(0, data))])


def test_a_response_is_decoded_once(journal: Journal, lesson: CountingLesson, opened: OpenLesson) -> None:
    """Checking it, both phases and the gate share the samples; weights are those of each step."""
    receive(journal, VET, b"from the vet")
    receive(journal, KENNEL, b"from the kennel")
    opened.check(VET, [DOG])
    evidence = {VET: {DOG: 0.75}, KENNEL: {DOG: 0.25}}
    for _ in range(3):
        found = {each.source: each for each in opened.responses(evidence)}
    assert sorted(lesson.reads) == [KENNEL, VET]
    assert found[VET].weights == {DOG: 1.0}
    assert opened.responses({VET: {DOG: 0.75}})[0].inputs is found[VET].inputs


def test_reading_can_be_given_up(journal: Journal, lesson: CountingLesson, opened: OpenLesson) -> None:
    """A model that came is inverted for minutes; what was given up is read anew, by a check or a step."""
    receive(journal, VET, b"from the vet")

    def give_up(*_: object) -> None:
        raise CancelledError("interrupted")

    with pytest.raises(CancelledError):
        opened.check(VET, [DOG], give_up)
    with pytest.raises(CancelledError):
        opened.responses({VET: {DOG: 1.0}}, give_up)
    opened.check(VET, [DOG])
    assert lesson.reads == [VET]


def test_what_is_encoded_is_read_as_what_it_stands_for(
    journal: Journal, lesson: CountingLesson, opened: OpenLesson
) -> None:
    """A bomb is refused before anything is read of it, however small it came."""
    plain = b"bad" * 100
    frame = zstandard.ZstdCompressor().compress(plain)
    receive(journal, VET, frame, plain_size=len(plain), encoding="zstd")
    opened.check(VET, [DOG])
    bomb = zstandard.ZstdCompressor().compress(bytes(2**26))
    receive(journal, KENNEL, bomb, plain_size=2**20, encoding="zstd")
    with pytest.raises(ProtocolError, match="a chunk holds 67108864 bytes, 1048576 were offered"):
        opened.check(KENNEL, [DOG])
    assert lesson.parts == [plain]


def test_what_came_anew_is_decoded_anew(journal: Journal, lesson: CountingLesson, opened: OpenLesson) -> None:
    """The offer's digests tell, and what is not usable stays so."""
    receive(journal, VET, b"first")
    opened.check(VET, [DOG])
    receive(journal, VET, b"bad")
    for _ in range(2):
        with pytest.raises(ProtocolError, match="not usable"):
            opened.check(VET, [DOG])
    assert lesson.reads == [VET] * 3


def test_a_chunk_that_changed_on_the_disk_is_not_learned_from(
    journal: Journal, opened: OpenLesson, tmp_path: Path
) -> None:
    """It was checked when it came, so the teacher is not blamed."""
    receive(journal, VET, b"first")
    receive(journal, KENNEL, b"other")
    (file,) = (tmp_path / "state.sqlite-chunks").iterdir()
    file.write_bytes(file.read_bytes().replace(b"first", b"First"))
    with pytest.raises(ConfigError, match="was damaged in the journal"):
        opened.check(VET, [DOG])
    opened.check(KENNEL, [DOG])


def test_what_arrived_of_a_response_is_read(
    journal: Journal, lesson: CountingLesson, opened: OpenLesson
) -> None:
    """The worker reads the classes that the asker counts on, and blames the disk where one is gone."""
    digests = [chunk_digest(data) for data in (b"dog", b"owl")]
    infos = tuple(ChunkInfo(digest, 3, 4) for digest in digests)
    journal.save_offer(QUERY.query_id, VET, TeachOffer("features", 1, (DOG, OWL), infos))
    journal.save_chunks(QUERY.query_id, VET, [(digests[0], Chunk(0, b"dog"))])
    opened.check(VET, [DOG])
    opened.responses({VET: {DOG: 1.0}})
    assert (lesson.reads, lesson.parts) == ([VET], [b"dog", b""])
    with pytest.raises(ConfigError, match="was damaged in the journal"):
        opened.responses({VET: {DOG: 1.0, OWL: 1.0}})


def test_memory_bounds_what_is_kept(
    journal: Journal, lesson: CountingLesson, opened: OpenLesson, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second response is one too many, and is read each time."""
    monkeypatch.setattr("qkt_node.worker.responses.MAX_DRAWN_NUMBERS", 15)
    receive(journal, VET, b"1")
    receive(journal, KENNEL, b"2")
    for _ in range(2):
        opened.check(VET, [DOG])
        opened.check(KENNEL, [DOG])
    assert lesson.reads == [VET, KENNEL, KENNEL]


def test_of_many_teachers_as_much_is_returned_as_fits(journal: Journal, opened: OpenLesson) -> None:
    """All that are learned from count, before the first of them is read."""
    peers = [PeerId(letter * 52) for letter in "abc"]
    for peer in peers:
        receive(journal, peer, peer.encode())
    for some, each in ((peers[:2], 4), (peers, 2)):
        assert [len(found) for found in opened.responses({peer: {DOG: 1.0} for peer in some})] == [
            each
        ] * len(some)


def test_one_lesson_is_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another query takes its place, as another model does, and the end of a query clears it."""
    bench = Workbench(Home(tmp_path), NodeConfig())
    monkeypatch.setattr(bench, "_lesson", lambda query, medium: CountingLesson())
    monkeypatch.setattr("qkt_node.report.write_report", lambda folder, data: folder)
    first = bench._lesson_of(QUERY, "weights")
    assert bench._lesson_of(QUERY, "weights") is first
    assert bench._lesson_of(QUERY, "moments") is not first
    bench.report({}, lambda told: None)
    assert bench._open_lesson is None
