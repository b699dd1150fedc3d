"""The journal: what goes in comes out, across restarts, threads, processes, crashes and full disks."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qkt_p2p.digests import chunk_digest
from qkt_p2p.errors import ConfigError, ProtocolError, QktError
from qkt_p2p.limits import MAX_PEERS
from qkt_p2p.store import peers as peers_module
from qkt_p2p.store import transfers as transfers_module
from qkt_p2p.store.journal import Journal, ModelRecord, QueryRecord
from qkt_p2p.store.schema import MIGRATIONS
from qkt_p2p.types import Chunk, ChunkInfo, ClassName, PeerId, Query, QueryId, TeachOffer, TransferRecord

QUERY = QueryId("0123456789abcdef")
OTHER = QueryId("fedcba9876543210")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """An empty journal that is closed when the test ends."""
    opened = Journal(tmp_path / "state.sqlite")
    yield opened
    opened.close()


def query(query_id: QueryId = QUERY, classes: tuple[str, ...] = ("seven", "Läsion")) -> Query:
    names = tuple(ClassName(name) for name in classes)
    return Query(query_id=query_id, classes=names, medium="moments", seed=7, deadline_seconds=60.0)


def chunk(index: int, data: bytes) -> tuple[Chunk, ChunkInfo]:
    return Chunk(index, data), ChunkInfo(chunk_digest(data), len(data), samples=3)


def offer_of(*contents: bytes, model_version: int = 4) -> tuple[TeachOffer, list[Chunk]]:
    chunks, infos = zip(*(chunk(index, data) for index, data in enumerate(contents)), strict=True)
    return TeachOffer("moments", model_version, (ClassName("seven"),), infos), list(chunks)


def save_response(journal: Journal, source: str, *contents: bytes) -> TeachOffer:
    offer, chunks = offer_of(*contents)
    journal.save_offer(QUERY, source, offer)
    for part in chunks:
        digest = offer.chunks[part.index].digest
        journal.save_chunks(QUERY, source, [(digest, part)])
    return offer


def files_of(journal: Journal) -> list[Path]:
    """Return the files that hold chunks."""
    return list(journal._chunks._folder.iterdir())


def model(version: int) -> ModelRecord:
    return ModelRecord(
        version=version,
        parent=version - 1,
        created_at=1700000000.25,
        known_classes=(ClassName("seven"), ClassName("nine")),
        query_id=QUERY,
        file=f"{version:06d}.safetensors",
        sha256="ab" * 32,
        metadata_json='{"architecture":"cnn"}',
    )


def test_query_goes_through_its_states(journal: Journal) -> None:
    """A query is running with a step, then ended with its result."""
    journal.start_query(query(), 12.5)
    journal.set_query_step(QUERY, "collect")
    running = QueryRecord(QUERY, (ClassName("seven"), ClassName("Läsion")), "running", "collect", 12.5)
    assert journal.query_record(QUERY) == running
    journal.finish_query(QUERY, "accepted", '{"outcome":"accepted"}')
    ended = journal.query_record(QUERY)
    assert ended is not None
    assert (ended.state, ended.result_json) == ("accepted", '{"outcome":"accepted"}')


def test_queries_are_listed_newest_first_up_to_a_limit(journal: Journal) -> None:
    """The order is that of starting, whatever the clock said."""
    for number, started_at in enumerate([30.0, 10.0, 20.0]):
        journal.start_query(query(QueryId(f"{number:016x}")), started_at)
    assert [record.started_at for record in journal.query_records()] == [20.0, 10.0, 30.0]
    assert [record.started_at for record in journal.query_records(limit=1)] == [20.0]


def test_unknown_and_repeated_queries_are_refused(journal: Journal) -> None:
    """No row is changed or made silently."""
    assert journal.query_record(QUERY) is None
    with pytest.raises(QktError, match=QUERY):
        journal.set_query_step(QUERY, "probe")
    with pytest.raises(QktError, match=QUERY):
        journal.finish_query(QUERY, "failed", "{}")
    journal.start_query(query(), 1.0)
    with pytest.raises(QktError, match="UNIQUE"):
        journal.start_query(query(), 2.0)


def test_a_query_under_way_is_kept_until_it_ends(journal: Journal) -> None:
    """What is needed to go on with it, and how often that was tried since it last finished a step."""
    journal.start_query(query(), 1.0, kept_json="begun")
    for _ in range(2):
        journal.begin_attempt(QUERY)
    (found,) = journal.queries_under_way()
    assert (found.kept_json, found.attempts, found.state) == ("begun", 2, "running")
    journal.keep_query(QUERY, "still there", step_finished=False)
    assert journal.queries_under_way()[0].attempts == 2
    journal.keep_query(QUERY, "one step further", step_finished=True)
    journal.resume_query(QUERY)
    (found,) = journal.queries_under_way()
    assert (found.kept_json, found.attempts, found.state) == ("one step further", 1, "resumed")
    journal.forgive_attempts(QUERY)
    assert journal.queries_under_way()[0].attempts == 0
    journal.finish_query(QUERY, "failed", "{}", error_json='{"code": "peer"}')
    ended = journal.query_record(QUERY)
    assert ended is not None
    assert (ended.kept_json, ended.error_json, journal.queries_under_way()) == ("", '{"code": "peer"}', [])


def test_queries_under_way_are_listed_in_their_order(journal: Journal) -> None:
    """Whatever the clock said, and whichever have ended."""
    for number, started_at in enumerate([30.0, 10.0, 20.0]):
        journal.start_query(query(QueryId(f"{number:016x}")), started_at)
    journal.finish_query(QueryId(f"{1:016x}"), "accepted", "{}")
    assert [record.started_at for record in journal.queries_under_way()] == [30.0, 20.0]


def test_a_token_names_one_query(journal: Journal) -> None:
    """Two queries never share one, though any number may have none."""
    journal.start_query(query(), 1.0, token="monday", options_json="{}")
    found = journal.query_of_token("monday")
    assert found is not None
    assert (found.query_id, found.token, found.options_json) == (QUERY, "monday", "{}")
    with pytest.raises(QktError, match="UNIQUE"):
        journal.start_query(query(OTHER), 2.0, token="monday")
    for query_id in (OTHER, QueryId("1" * 16)):
        journal.start_query(query(query_id), 2.0)
    assert journal.query_of_token("") is journal.query_of_token("tuesday") is None


def test_restart_drops_what_nobody_goes_on_with(journal: Journal) -> None:
    """Responses to a query that ended go, those to one that is under way stay."""
    for query_id in (QUERY, OTHER):
        journal.start_query(query(query_id), 1.0)
        journal.save_offer(query_id, "peer", offer_of(b"kept")[0])
    journal.finish_query(OTHER, "accepted", "{}")
    journal.drop_remains()
    assert journal.load_offer(QUERY, "peer") is not None
    assert journal.load_offer(OTHER, "peer") is None


def test_response_comes_back_in_index_order(journal: Journal) -> None:
    """Chunks may arrive in any order; those that never came are left out."""
    offer, chunks = offer_of(b"first", b"second", b"third")
    journal.save_offer(QUERY, "peer", offer)
    for index in (2, 0):
        journal.save_chunks(QUERY, "peer", [(offer.chunks[index].digest, chunks[index])])
    assert journal.load_offer(QUERY, "peer") == offer
    assert [data for _, data in journal.load_chunks(QUERY, "peer")] == [b"first", b"third"]
    assert journal.held_digests(QUERY) == {offer.chunks[0].digest, offer.chunks[2].digest}


def test_chunk_that_was_not_offered_is_refused(journal: Journal) -> None:
    """Neither a wrong place nor other content nor another teacher's offer lets a chunk in."""
    offer = save_response(journal, "peer", b"first")
    digest = offer.chunks[0].digest
    for source, index, name in [("peer", 1, digest), ("peer", 0, b"x" * 32), ("stranger", 0, digest)]:
        with pytest.raises(ProtocolError, match="did not offer"):
            journal.save_chunks(QUERY, source, [(name, Chunk(index, b"first"))])


def test_chunks_survive_a_new_offer_with_the_same_content(journal: Journal) -> None:
    """A teacher that restarts offers anew, and only what changed has to travel again."""
    save_response(journal, "peer", b"first", b"second")
    changed, _ = offer_of(b"second", b"new", model_version=5)
    journal.save_offer(QUERY, "peer", changed)
    assert journal.load_offer(QUERY, "peer") == changed
    assert [data for _, data in journal.load_chunks(QUERY, "peer")] == [b"second"]


def test_teachers_share_equal_chunks(journal: Journal) -> None:
    """A digest held from one teacher counts for the other, so both responses are whole."""
    save_response(journal, "one", b"same", b"of one")
    offer, _ = offer_of(b"of two", b"same")
    journal.save_offer(QUERY, "two", offer)
    assert [data for _, data in journal.load_chunks(QUERY, "two")] == [b"same"]


def test_chunks_count_for_whoever_brought_them(journal: Journal) -> None:
    """Those of an earlier offer do, too, and one that another teacher brought first does not."""
    save_response(journal, "one", b"same", b"of one")
    save_response(journal, "two", b"same", b"of two, at first")
    save_response(journal, "two", b"of two")
    assert journal.held_by_source(QUERY) == {"one": (2, 10), "two": (2, 22)}
    assert journal.held_by_source(OTHER) == {}


def test_dropped_responses_leave_nothing_behind(journal: Journal, tmp_path: Path) -> None:
    """Dropping forgets one query's offers and chunks and gives the disk its space back."""
    for number in range(8):
        save_response(journal, f"peer {number}", bytes([number]) * 400_000)
    journal.save_offer(OTHER, "peer", offer_of(b"kept")[0])
    journal.drop_responses(QUERY)
    assert journal.load_offer(QUERY, "peer 0") is None
    assert journal.held_digests(QUERY) == set()
    assert journal.load_offer(OTHER, "peer") is not None
    assert [file.name for file in files_of(journal)] == [f"query-{OTHER}"]
    journal.close()
    assert (tmp_path / "state.sqlite").stat().st_size < 400_000


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(contents=st.lists(st.binary(max_size=200), min_size=1, max_size=6), name=st.text(max_size=20))
def test_any_bytes_and_names_come_back(journal: Journal, contents: list[bytes], name: str) -> None:
    """Chunks and class names are stored verbatim."""
    offer, chunks = offer_of(*contents)
    encoded = tuple(replace(info, plain_size=info.size + 1) for info in offer.chunks)
    offer = replace(offer, classes=(ClassName(name),), chunks=encoded, encoding=name)
    journal.save_bank("key", offer, chunks)
    assert journal.load_bank("key") == offer
    journal.save_offer(QUERY, name, offer)
    assert journal.load_offer(QUERY, name) == offer
    assert journal.load_bank_chunks("key", range(len(contents))) == contents


def test_bank_is_replaced_as_a_whole(journal: Journal) -> None:
    """A new bank of the same key takes the place of all chunks of the old."""
    for contents in [(b"a", b"b", b"c"), (b"d",)]:
        offer, chunks = offer_of(*contents)
        journal.save_bank("key", offer, chunks)
    assert journal.load_bank("key") == offer
    assert journal.load_bank_chunks("key", [0]) == [b"d"]
    assert journal.load_bank_chunks("key", [0, 1]) is None
    assert len(files_of(journal)) == 1


def test_bank_that_fails_half_way_leaves_the_old_one(journal: Journal) -> None:
    """Synthesis that raises, or chunks unlike the offer, change nothing."""
    old, chunks = offer_of(b"old")
    journal.save_bank("key", old, chunks)
    offer, new = offer_of(b"one", b"two")

    def breaking() -> Iterator[Chunk]:
        yield new[0]
        raise RuntimeError("synthesis broke")

    with pytest.raises(RuntimeError, match="synthesis broke"):
        journal.save_bank("key", offer, breaking())
    for unlike in ([new[0]], [new[0], new[0]], [new[0], Chunk(1, b"other size")], [Chunk(2, b"one")]):
        with pytest.raises(QktError, match="offer"):
            journal.save_bank("key", offer, unlike)
    assert journal.load_bank("key") == old
    assert journal.load_bank_chunks("key", [0]) == [b"old"]
    assert journal._rows("SELECT count(*) FROM banks") == [(1,)]
    assert len(files_of(journal)) == 1


def test_half_saved_bank_of_a_crash_is_dropped_at_the_next_start(journal: Journal, tmp_path: Path) -> None:
    """A process killed while it saves leaves no bank, and its rows go when the daemon starts again."""
    script = f"""
import os
from pathlib import Path
from qkt_p2p.store.journal import Journal
from qkt_p2p.types import Chunk, ChunkInfo, TeachOffer

def chunks():
    yield Chunk(0, b"one")
    os.kill(os.getpid(), 9)

infos = (ChunkInfo(b"d" * 32, 3, 1),) * 2
offer = TeachOffer("moments", 1, (), infos)
Journal(Path({str(tmp_path / "state.sqlite")!r})).save_bank("key", offer, chunks())
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    assert journal.load_bank("key") is None
    assert journal._rows("SELECT count(*) FROM banks") == [(1,)]
    (file,) = files_of(journal)
    assert file.read_bytes() == b"one"
    journal.drop_remains()
    assert journal._rows("SELECT count(*) FROM banks") == [(0,)]
    assert files_of(journal) == []


def test_statistics_made_first_are_evicted_first(journal: Journal) -> None:
    """Eviction stops as soon as the rest fits; what is made again counts as new."""
    kept = journal.statistics()
    for name in "abc":
        kept[name] = bytes(100)
    kept["a"] = bytes(50)
    assert journal.evict_statistics(250) == 0
    assert journal.evict_statistics(249) == 1
    assert [kept.get(name) for name in "abc"] == [bytes(50), None, bytes(100)]
    assert journal.evict_statistics(0) == 2
    assert journal.evict_statistics(0) == 0


def test_statistics_of_other_models_are_evicted_first(journal: Journal) -> None:
    """Though they were made later: a version that nobody uses any more leaves room for the one in use."""
    kept = journal.statistics()
    keys = ("recipe-12-a", "recipe-2-b", "stem-2-1", "recipe-1-2")
    for key in keys:
        kept[key] = bytes(100)
    assert journal.evict_statistics(200, model_version=2) == 2
    assert [key for key in keys if kept.get(key)] == ["recipe-2-b", "stem-2-1"]
    assert journal.evict_statistics(100, model_version=2) == 1
    assert [key for key in keys if kept.get(key)] == ["stem-2-1"]


def test_statistics_that_are_kept_evict_others(journal: Journal) -> None:
    """So a node that only asks, and never teaches, keeps no more than one that does."""
    kept = journal.statistics(max_bytes=200, model_version=3)
    keys = ("recipe-3-a", "recipe-2-b", "recipe-3-c")
    for key in keys:
        kept[key] = bytes(100)
    assert [key for key in keys if kept.get(key)] == ["recipe-3-a", "recipe-3-c"]


def test_eviction_drops_what_was_unused_for_longest(journal: Journal) -> None:
    """Loading a bank counts as a use, and eviction stops as soon as the rest fits."""
    for key in ("a", "b", "c"):
        offer, chunks = offer_of(b"x" * 100)
        journal.save_bank(key, offer, chunks)
    journal.load_bank("a")
    assert journal.evict_banks(300) == 0
    assert journal.evict_banks(250) == 1
    assert [key for key in ("a", "b", "c") if journal.load_bank(key)] == ["a", "c"]
    assert journal.evict_banks(0) == 1
    assert journal.load_bank("c") is not None


def test_the_bank_used_last_is_never_evicted(journal: Journal) -> None:
    """However large it is, somebody is about to be sent it."""
    offer, chunks = offer_of(b"x" * 100)
    for key in ("a", "b"):
        journal.save_bank(key, offer, chunks)
        assert journal.evict_banks(99) == (key == "b")
    assert (journal.load_bank("a"), journal.load_bank("b")) == (None, offer)


def test_statistics_are_kept_per_key(journal: Journal) -> None:
    """What is put under a key last is there."""
    journal.put_statistics("data", b"forever")
    journal.put_statistics("new", b"1")
    journal.put_statistics("new", b"2")
    assert [journal.get_statistics(key) for key in ("data", "old", "new")] == [b"forever", None, b"2"]


def test_statistics_serve_as_a_cache(journal: Journal) -> None:
    """What is put into the cache is a row, and the other way round."""
    cache = journal.statistics()
    cache["a"] = b"1"
    journal.put_statistics("b", b"2")
    assert (journal.get_statistics("a"), cache.get("b"), cache.get("c")) == (b"1", b"2", None)


def test_model_versions_count_up(journal: Journal) -> None:
    """The next version follows the highest, a taken one is refused, and records come back whole."""
    assert journal.next_model_version() == 1
    for version in (1, 2):
        journal.add_model(model(version))
    assert journal.next_model_version() == 3
    assert journal.model_records() == [model(2), model(1)]
    assert (journal.model_of_query(QUERY), journal.model_of_query(OTHER)) == (model(2), None)
    with pytest.raises(QktError, match="models"):
        journal.add_model(model(2))


def test_peers_are_remembered_up_to_the_cap(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """The peer unseen for longest goes first, and a peer seen again moves to the front."""
    monkeypatch.setattr(peers_module, "MAX_PEERS", 2)
    assert MAX_PEERS > 2

    def remember(peer: str, seen: float) -> None:
        journal.remember_peer(
            PeerId(peer), f"name of {peer}", addresses=["h:1"], found_by="exchange", last_seen_at=seen
        )

    for peer, seen in [("a", 1.0), ("b", 2.0), ("a", 3.0), ("c", 4.0)]:
        remember(peer, seen)
    found = journal.known_peers()
    assert [(record.peer, record.last_seen_at) for record in found] == [("c", 4.0), ("a", 3.0)]
    assert (found[0].node_name, found[0].addresses, found[0].found_by) == ("name of c", ("h:1",), "exchange")


def test_journal_survives_a_restart_and_stays_private(tmp_path: Path) -> None:
    """All files of the journal have mode 0600 and their folder 0700, even opened up, and content lasts."""
    path = tmp_path / "state.sqlite"
    first = Journal(path)
    first.start_query(query(), 1.0)
    save_response(first, "peer", b"chunk")
    modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
    chunks = tmp_path / "state.sqlite-chunks"
    assert modes.pop(chunks.name) == 0o700
    assert {file.stat().st_mode & 0o777 for file in chunks.iterdir()} == {0o600}
    assert set(modes.values()) == {0o600}
    assert "state.sqlite-wal" in modes
    first.close()
    first.close()
    path.chmod(0o644)
    chunks.chmod(0o755)
    second = Journal(path)
    assert second.query_record(QUERY) is not None
    assert (path.stat().st_mode & 0o777, chunks.stat().st_mode & 0o777) == (0o600, 0o700)
    second.close()


def test_closed_journal_refuses_work(tmp_path: Path) -> None:
    """Use after close is an error of the tree, not sqlite's."""
    journal = Journal(tmp_path / "state.sqlite")
    journal.close()
    with pytest.raises(QktError, match="closed"):
        journal.query_records()


def test_journal_of_newer_software_is_refused(tmp_path: Path) -> None:
    """The file is left as it is, and the message names both versions."""
    path = tmp_path / "state.sqlite"
    Journal(path).close()
    newer = len(MIGRATIONS) + 1
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {newer}")
    connection.close()
    with pytest.raises(ConfigError, match=f"version {newer}") as caught:
        Journal(path)
    assert caught.value.fix


def test_older_journal_is_migrated_forward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration added later runs once on an existing file, and its rows stay."""
    path = tmp_path / "state.sqlite"
    journal = Journal(path)
    journal.add_model(model(1))
    journal.close()
    later = (*MIGRATIONS, ("ALTER TABLE models ADD COLUMN note TEXT NOT NULL DEFAULT ''",))
    monkeypatch.setattr("qkt_p2p.store.database.MIGRATIONS", later)
    for _ in range(2):
        journal = Journal(path)
        assert journal.model_records() == [model(1)]
        assert journal._rows("SELECT note FROM models") == [("",)]
        journal.close()


def test_queries_of_an_earlier_version_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They have no token, and nothing was kept of them."""
    path = tmp_path / "state.sqlite"
    with monkeypatch.context() as patch:
        patch.setattr("qkt_p2p.store.database.MIGRATIONS", MIGRATIONS[:1])
        journal = Journal(path)
        journal._write(
            "INSERT INTO queries (query_id, classes, state, step, started_at, result_json)"
            " VALUES (?, '[\"seven\"]', 'running', 'phase1', 1.5, '')",
            (QUERY,),
        )
        journal.close()
    journal = Journal(path)
    assert journal.queries_under_way() == [
        QueryRecord(QUERY, (ClassName("seven"),), "running", "phase1", 1.5)
    ]
    journal.close()


def test_statistics_of_an_earlier_version_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They took long to make; what was made first is still evicted first."""
    path = tmp_path / "state.sqlite"
    with monkeypatch.context() as patch:
        patch.setattr("qkt_p2p.store.database.MIGRATIONS", MIGRATIONS[:6])
        journal = Journal(path)
        for key in ("z", "a", "m"):
            journal._write("INSERT INTO statistics VALUES (?, 3, ?)", (key, key.encode()))
        journal._write("INSERT OR REPLACE INTO statistics VALUES ('z', 4, x'00')")
        journal.close()
    journal = Journal(path)
    kept = journal.statistics()
    assert [kept.get(key) for key in "amz"] == [b"a", b"m", b"\0"]
    assert journal.evict_statistics(2) == 1
    assert [kept.get(key) for key in "amz"] == [None, b"m", b"\0"]
    journal.close()


def test_failed_migration_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration is kept whole or undone whole."""
    path = tmp_path / "state.sqlite"
    Journal(path).close()
    broken = (
        *MIGRATIONS,
        ("ALTER TABLE models ADD COLUMN note TEXT", "ALTER TABLE nowhere ADD COLUMN x TEXT"),
    )
    with monkeypatch.context() as patch:
        patch.setattr("qkt_p2p.store.database.MIGRATIONS", broken)
        with pytest.raises(QktError, match="nowhere"):
            Journal(path)
    journal = Journal(path)
    assert "note" not in [column[1] for column in journal._rows("PRAGMA table_info(models)")]
    journal.close()


@pytest.mark.parametrize("damage", ["text", "pages"])
def test_damaged_journal_names_the_file_and_the_fix(tmp_path: Path, damage: str) -> None:
    """A file of something else, and a journal with overwritten pages, end in ConfigError."""
    path = tmp_path / "state.sqlite"
    if damage == "text":
        path.write_text("this is no database " * 400)
    else:
        Journal(path).close()
        content = bytearray(path.read_bytes())
        content[100:] = b"\xff" * (len(content) - 100)
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"state\.sqlite is damaged") as caught:
        Journal(path).model_records()
    assert caught.value.fix.endswith(".damaged`")


def test_missing_folder_is_a_configuration_error(tmp_path: Path) -> None:
    """The message names the path, the fix the folder."""
    with pytest.raises(ConfigError, match=r"state\.sqlite") as caught:
        Journal(tmp_path / "absent" / "state.sqlite")
    assert "absent" in caught.value.fix


def test_full_disk_loses_nothing(small_disk: Path) -> None:
    """A write that does not fit fails with the path and the cause, and what was there stays."""
    journal = Journal(small_disk / "state.sqlite")
    journal.add_model(model(1))
    offer, chunks = offer_of(b"x" * 4_000_000)
    with pytest.raises(QktError, match=r"state\.sqlite-chunks.*(No space|too large)"):
        journal.save_bank("key", offer, chunks)
    assert files_of(journal) == []
    journal.save_offer(QUERY, "peer", offer)
    with pytest.raises(QktError, match=r"state\.sqlite-chunks.*(No space|too large)"):
        journal.save_chunks(QUERY, "peer", [(offer.chunks[0].digest, chunks[0])])
    assert journal.held_digests(QUERY) == set()
    assert [file.stat().st_size for file in files_of(journal)] == [0]
    with pytest.raises(QktError, match=r"state\.sqlite.*(full|I/O)"):
        journal.put_statistics("key", bytes(4_000_000))
    assert journal.model_records() == [model(1)]
    journal.add_model(model(2))
    journal.close()


def test_responses_that_fill_the_disk_are_given_back(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though no row can be deleted any more; what is left of the rows holds no chunk."""
    save_response(journal, "peer", b"x" * 1000)

    def full() -> NoReturn:
        raise QktError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(journal, "_transaction", full)
        with pytest.raises(QktError, match="is full"):
            journal.drop_responses(QUERY)
    assert (files_of(journal), journal.held_digests(QUERY)) == ([], set())
    journal.drop_responses(QUERY)
    assert journal.load_offer(QUERY, "peer") is None


def test_a_bank_goes_though_no_row_can_be_deleted(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file is what takes the space; whoever reads it before the row is gone finds it damaged."""
    offer, chunks = offer_of(b"x" * 1000)
    journal.save_bank("key", offer, chunks)
    (file,) = files_of(journal)
    file.write_bytes(bytes(1000))

    def full(*_: object) -> NoReturn:
        raise QktError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(journal, "_write", full)
        with pytest.raises(QktError, match="is full"):
            journal.load_bank_chunks("key", [0], checked=[0])
    assert (files_of(journal), journal.load_bank("key")) == ([], offer)
    with pytest.raises(QktError, match="is not what was saved"):
        journal.load_bank_chunks("key", [0])
    assert journal.load_bank("key") is None


def test_threads_share_a_journal(journal: Journal) -> None:
    """Writers and readers on many threads lose no row."""

    def work(thread: int) -> None:
        for number in range(25):
            query_id = QueryId(f"{thread:08x}{number:08x}")
            journal.start_query(query(query_id), 1.0)
            journal.finish_query(query_id, "accepted", "{}")
            assert journal.query_record(query_id) is not None

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(journal.query_records(limit=1000)) == 200


def test_processes_share_a_journal_from_its_first_moment(tmp_path: Path) -> None:
    """Several processes create, migrate and fill the same file at once."""
    path = tmp_path / "state.sqlite"
    script = f"""
import sys
from pathlib import Path
from qkt_p2p.store.journal import Journal
from qkt_p2p.types import Query

journal = Journal(Path({str(path)!r}))
for number in range(25):
    query_id = f"{{int(sys.argv[1]):08x}}{{number:08x}}"
    journal.start_query(Query(query_id, ("seven",), "moments", 1, 1.0), 1.0)
journal.close()
assert not {{"numpy", "torch"}} & set(sys.modules)
"""
    running = [subprocess.Popen([sys.executable, "-c", script, str(number)]) for number in range(4)]
    assert [process.wait(timeout=60) for process in running] == [0, 0, 0, 0]
    journal = Journal(path)
    assert len(journal.query_records(limit=1000)) == 100
    journal.close()


def test_transfers_of_peers_are_remembered_within_bounds(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The latest of each peer, and the latest of all; who was never heard of has none."""
    monkeypatch.setattr(transfers_module, "TRANSFERS_OF_A_PEER", 3)
    monkeypatch.setattr(transfers_module, "MAX_TRANSFERS", 5)
    first, second = PeerId("a" * 52), PeerId("b" * 52)
    assert journal.transfers_of(first) == []
    for number in range(5):
        journal.note_transfer(first, TransferRecord(float(number), number, 0.5))
    assert [record.bytes for record in journal.transfers_of(first)] == [4, 3, 2]
    for number in range(4):
        journal.note_transfer(second, TransferRecord(0.25, 10 + number, 0.5))
    assert [record.bytes for record in journal.transfers_of(second)] == [13, 12, 11]
    assert [record.bytes for record in journal.transfers_of(first)] == [4]
    assert journal.transfers_of(second)[0] == TransferRecord(0.25, 13, 0.5)


def test_learning_seconds_are_those_of_queries_that_were_judged(journal: Journal) -> None:
    """The latest first; a failed or running query, and a result of other software, says nothing."""
    ends = [
        ("accepted", '{"seconds": {"phase1": 1.5, "phase2": 2.0, "validate": 0.5, "collect": 9.0}}'),
        ("failed", '{"seconds": {"phase1": 100.0, "phase2": 0.0, "validate": 0.0}}'),
        ("refused", '{"seconds": {"phase1": 1.0, "phase2": 1.0, "validate": 1.0}}'),
        ("accepted", '{"seconds": {}}'),
        ("accepted", ""),
    ]
    for number, (state, result) in enumerate(ends):
        query_id = QueryId(f"{number:016x}")
        journal.start_query(query(query_id), 1.0)
        journal.finish_query(query_id, state, result)  # type: ignore[arg-type]
    assert journal.learning_seconds() == [3.0, 4.0]
