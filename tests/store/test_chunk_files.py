"""Chunks in files beside the journal: crashes between file and row, damage, leftovers, and older journals."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qkt_p2p.digests import chunk_digest
from qkt_p2p.errors import QktError
from qkt_p2p.store.chunk_files import ChunkFiles
from qkt_p2p.store.journal import Journal
from qkt_p2p.store.schema import MIGRATIONS
from qkt_p2p.types import Chunk, ChunkInfo, ClassName, Query, QueryId, TeachOffer

QUERY = QueryId("0123456789abcdef")
OWNER = f"query-{QUERY}"
CONTENTS = [b"first", b"second", b"third"]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite"


@pytest.fixture
def journal(database: Path) -> Iterator[Journal]:
    with closing(Journal(database)) as journal:
        yield journal


@pytest.fixture
def files(tmp_path: Path) -> ChunkFiles:
    return ChunkFiles(tmp_path / "chunks")


def digest_of(data: bytes) -> bytes:
    return chunk_digest(data)


def offer_of(*contents: bytes) -> TeachOffer:
    infos = tuple(ChunkInfo(digest_of(data), len(data), 1) for data in contents)
    return TeachOffer("moments", 1, (ClassName("seven"),), infos)


def begin(journal: Journal) -> None:
    journal.start_query(Query(QUERY, (ClassName("seven"),), "moments", 1, 10.0), 1.0)


def receive(journal: Journal, *contents: bytes, source: str = "peer") -> None:
    """Keep a whole response."""
    journal.save_offer(QUERY, source, offer_of(*contents))
    for index, data in enumerate(contents):
        journal.save_chunks(QUERY, source, [(digest_of(data), Chunk(index, data))])


def chunk_file(database: Path) -> Path:
    """Return the one file of chunks."""
    (path,) = database.with_name("state.sqlite-chunks").iterdir()
    return path


def damage(path: Path, data: bytes) -> None:
    """Change one chunk on the disk."""
    content = path.read_bytes()
    assert data in content
    path.write_bytes(content.replace(data, data[::-1]))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(st.binary(max_size=300), max_size=4), max_size=6))
def test_whatever_is_appended_is_where_it_says(files: ChunkFiles, batches: list[list[bytes]]) -> None:
    """Each chunk comes back by its place and size, and what lies beyond the end is short."""
    files.make(OWNER)
    starts = [start for batch in batches for start in files.append(OWNER, batch)]
    contents = [data for batch in batches for data in batch]
    places = [(start, len(data)) for start, data in zip(starts, contents, strict=True)]
    assert files.read(OWNER, places) == contents
    assert files.read(OWNER, [(sum(map(len, contents)), 10)]) == [b""]
    files.drop(OWNER)


@pytest.mark.parametrize(
    "owner", ["", ".", "../state", "query-../../x", f"{OWNER}/", "peer-0123456789abcdef"]
)
def test_only_queries_and_banks_have_files(files: ChunkFiles, owner: str) -> None:
    """No other name becomes part of a path."""
    for use in (
        files.make,
        files.drop,
        lambda name: files.append(name, [b""]),
        lambda name: files.read(name, [(0, 1)]),
    ):
        with pytest.raises(QktError, match="holds no chunks"):
            use(owner)


def test_what_was_dropped_stays_so(files: ChunkFiles) -> None:
    """Whoever still has a chunk to append fails, and no file comes back; dropping twice is harmless."""
    files.make(OWNER)
    for _ in range(2):
        files.drop(OWNER)
    with pytest.raises(QktError, match="cannot write"):
        files.append(OWNER, [b"late"])
    assert files.read(OWNER, [(0, 4), (4, 1)]) == [b"", b""]


@pytest.mark.parametrize("seconds", [0, 1, 2])
def test_a_process_that_is_killed_loses_no_chunk_that_it_kept(database: Path, seconds: int) -> None:
    """All that it held is named, and comes back, after kill -9 at any chunk."""
    script = f"""
import os
from pathlib import Path
from tests.store.test_chunk_files import CONTENTS, QUERY, begin, digest_of, offer_of
from qkt_p2p.store.journal import Journal
from qkt_p2p.types import Chunk

journal = Journal(Path({str(database)!r}))
begin(journal)
journal.save_offer(QUERY, "peer", offer_of(*CONTENTS))
for index, data in enumerate(CONTENTS[: {seconds} + 1]):
    journal.save_chunks(QUERY, "peer", [(digest_of(data), Chunk(index, data))])
os.kill(os.getpid(), 9)
"""
    ended = subprocess.run([sys.executable, "-c", script], check=False, cwd=Path(__file__).parents[2])
    assert ended.returncode == -signal.SIGKILL
    with closing(Journal(database)) as journal:
        journal.drop_remains()
        held = CONTENTS[: seconds + 1]
        assert journal.held_digests(QUERY) == set(map(digest_of, held))
        assert [data for _, data in journal.load_chunks(QUERY, "peer")] == held


def test_data_without_a_row_is_no_chunk(journal: Journal, database: Path) -> None:
    """As after a crash between both: it is sent again, and lies behind what the crash left."""
    begin(journal)
    receive(journal, b"first")
    with chunk_file(database).open("ab") as file:
        file.write(b"seco")
    with closing(Journal(database)) as later:
        later.drop_remains()
        assert later.held_digests(QUERY) == {digest_of(b"first")}
        receive(later, b"first", b"second")
        assert [data for _, data in later.load_chunks(QUERY, "peer")] == [b"first", b"second"]
    assert chunk_file(database).read_bytes() == b"firstsecosecond"


@pytest.mark.parametrize("lost", ["damaged", "cut off", "missing", "zeros"])
def test_a_row_without_its_data_is_no_chunk(journal: Journal, database: Path, lost: str) -> None:
    """As after a power cut: what is not as it came is not named, and is fetched again."""
    begin(journal)
    receive(journal, *CONTENTS)
    path = chunk_file(database)
    match lost:
        case "damaged":
            damage(path, b"third")
        case "cut off":
            os.truncate(path, path.stat().st_size - 1)
        case "zeros":
            path.write_bytes(path.read_bytes().replace(b"third", bytes(5)))
        case _:
            path.unlink()
    sound = [] if lost == "missing" else CONTENTS[:2]
    assert [data for _, data in journal.load_chunks(QUERY, "peer")] == sound
    with closing(Journal(database)) as later:
        assert later.held_digests(QUERY) == set(map(digest_of, sound))
        receive(later, *CONTENTS)
        assert [data for _, data in later.load_chunks(QUERY, "peer")] == CONTENTS
    with closing(Journal(database)) as again:
        assert again.held_digests(QUERY) == set(map(digest_of, CONTENTS))


def test_chunks_that_come_together_are_kept_all_or_none(
    journal: Journal, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that are alike are kept once; on a disk that is full in the midst of them nothing is left."""
    begin(journal)
    contents = [b"same", b"same", b"other"]
    checked = [(digest_of(data), Chunk(at, data)) for at, data in enumerate(contents)]
    journal.save_offer(QUERY, "peer", offer_of(*contents))
    write = os.pwrite

    def full(descriptor: int, data: memoryview, at: int) -> int:
        if at:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data, at)

    with monkeypatch.context() as patch:
        patch.setattr("qkt_p2p.store.chunk_files.os.pwrite", full)
        with pytest.raises(QktError, match="No space left"):
            journal.save_chunks(QUERY, "peer", checked)
    assert (journal.held_digests(QUERY), chunk_file(database).read_bytes()) == (set(), b"")
    for _ in range(2):
        journal.save_chunks(QUERY, "peer", checked)
    assert chunk_file(database).read_bytes() == b"sameother"
    assert [data for _, data in journal.load_chunks(QUERY, "peer")] == contents


def test_a_chunk_of_two_teachers_is_on_the_disk_once(journal: Journal, database: Path) -> None:
    """Both responses are whole."""
    for source in ("one", "two"):
        receive(journal, *CONTENTS, source=source)
        assert [data for _, data in journal.load_chunks(QUERY, source)] == CONTENTS
    assert chunk_file(database).read_bytes() == b"".join(CONTENTS)


def test_whoever_asks_what_is_held_does_not_wait_for_the_disk(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event loop asks, while another thread saves to a disk that takes its time."""
    receive(journal, b"first")
    writing, go_on, append = threading.Event(), threading.Event(), ChunkFiles.append

    def slow(self: ChunkFiles, owner: str, chunks: Sequence[bytes]) -> list[int]:
        writing.set()
        assert go_on.wait(30)
        return append(self, owner, chunks)

    monkeypatch.setattr(ChunkFiles, "append", slow)
    saving = threading.Thread(target=receive, args=(journal, *CONTENTS))
    saving.start()
    assert writing.wait(30)
    assert journal.held_digests(QUERY) == {digest_of(b"first")}
    go_on.set()
    saving.join()
    assert journal.held_digests(QUERY) == set(map(digest_of, CONTENTS))


def test_leftovers_go_when_the_daemon_starts(journal: Journal, database: Path) -> None:
    """Files of queries that ended, of banks that nobody finished or that are gone, and of nobody."""
    begin(journal)
    receive(journal, *CONTENTS)
    journal.save_bank("key", offer_of(b"bank"), [Chunk(0, b"bank")])
    folder = database.with_name("state.sqlite-chunks")
    for name in ("query-fedcba9876543210", "bank-0000000000000001", ".anything"):
        (folder / name).write_bytes(b"left")
    journal.drop_remains()
    assert sorted(path.name.split("-")[0] for path in folder.iterdir()) == ["bank", "query"]
    assert journal.load_bank_chunks("key", [0]) == [b"bank"]
    # The row goes first: a crash in between leaves a file.
    journal.finish_query(QUERY, "failed", "{}")
    journal._write("DELETE FROM banks")
    journal.drop_remains()
    assert list(folder.iterdir()) == []
    assert journal.held_digests(QUERY) == set()


@pytest.mark.parametrize("lost", ["cut off", "missing", "changed"])
def test_a_bank_that_the_disk_lost_is_made_anew(journal: Journal, database: Path, lost: str) -> None:
    """Its chunk is not there, and then the bank is not, so that whoever asks again gets all of it."""
    offer, chunks = offer_of(b"one", b"two"), [Chunk(0, b"one"), Chunk(1, b"two")]
    journal.save_bank("key", offer, chunks)
    path = chunk_file(database)
    if lost == "cut off":
        os.truncate(path, 4)
    elif lost == "missing":
        path.unlink()
    else:
        path.write_bytes(b"onetwO")
        assert journal.load_bank_chunks("key", [1, 0], checked=[0]) == [b"twO", b"one"], (
            "nobody wanted it checked"
        )
    first = 0 if lost == "missing" else 1
    with pytest.raises(QktError, match=rf"chunk {first} of bank-.* is not what was saved"):
        journal.load_bank_chunks("key", [0, 1], checked=[1])
    assert journal.load_bank_chunks("key", [1]) is None
    assert journal.load_bank("key") is None
    assert list(path.parent.iterdir()) == []
    journal.save_bank("key", offer, chunks)
    assert journal.load_bank_chunks("key", [0, 1]) == [b"one", b"two"]


def test_a_bank_that_goes_while_it_is_read_is_no_damage(
    journal: Journal, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process evicts it between a look at its rows and one at its file: there is no such bank."""
    journal.save_bank("key", offer_of(b"bank"), [Chunk(0, b"bank")])
    read = ChunkFiles.read

    def late(self: ChunkFiles, owner: str, places: Sequence[tuple[int, int]]) -> list[bytes]:
        with closing(Journal(database)) as worker:
            worker.save_bank("next", offer_of(b"next"), [Chunk(0, b"next")])
            assert worker.evict_banks(4) == 1
        return read(self, owner, places)

    monkeypatch.setattr(ChunkFiles, "read", late)
    assert journal.load_bank_chunks("key", [0]) is None


def test_eviction_removes_files(journal: Journal, database: Path) -> None:
    """The bank unused for longest takes its file with it."""
    for key in ("old", "new"):
        journal.save_bank(key, offer_of(key.encode()), [Chunk(0, key.encode())])
    assert journal.evict_banks(3) == 1
    assert chunk_file(database).read_bytes() == b"new"


def old_journal(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write what the version before chunks were in files left of a query under way and of a bank."""
    with monkeypatch.context() as patch:
        patch.setattr("qkt_p2p.store.database.MIGRATIONS", MIGRATIONS[:4])
        with closing(Journal(database)) as journal:
            begin(journal)
            journal._write(
                "INSERT INTO banks (number, key, medium, model_version, classes, last_use)"
                " VALUES (1, 'key', 'moments', 1, '[]', 0)"
            )
            journal._write("INSERT INTO bank_chunks VALUES (1, 0, x'00', 1, 1, x'00', 0)")
            for data in CONTENTS:
                journal._write("INSERT INTO held_chunks VALUES (?, ?, ?)", (QUERY, digest_of(data), data))


def test_chunks_of_an_older_journal_move_into_files(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A query under way goes on with all that it holds; banks are made anew."""
    old_journal(database, monkeypatch)
    with closing(Journal(database)) as journal:
        journal.drop_remains()
        assert journal.held_digests(QUERY) == set(map(digest_of, CONTENTS))
        journal.save_offer(QUERY, "peer", offer_of(*CONTENTS))
        assert [data for _, data in journal.load_chunks(QUERY, "peer")] == CONTENTS
        assert journal.load_bank("key") is None
        journal.save_bank("key", offer_of(b"bank"), [Chunk(0, b"bank")])
        assert journal.load_bank_chunks("key", [0]) == [b"bank"]


def test_a_move_that_fails_is_begun_again(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full in the midst of it leaves the older journal as it was."""
    old_journal(database, monkeypatch)
    append = ChunkFiles.append

    def full(self: ChunkFiles, owner: str, chunks: Sequence[bytes]) -> list[int]:
        if CONTENTS[-1] in chunks:
            raise QktError("no space left")
        return append(self, owner, chunks)

    with monkeypatch.context() as patch:
        patch.setattr(ChunkFiles, "append", full)
        with pytest.raises(QktError, match="cannot use the journal"):
            Journal(database)
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT count(data) FROM held_chunks").fetchone() == (3,)
    with closing(Journal(database)) as journal:
        assert journal.held_digests(QUERY) == set(map(digest_of, CONTENTS))
