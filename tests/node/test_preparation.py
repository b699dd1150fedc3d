"""A home after a crash, before its daemon serves again."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from qkt_node.home import Home
from qkt_node.model_files import candidate_file
from qkt_node.preparation import prepare_home, prepare_model
from qkt_node.remembered import DIALED_AGAIN, RememberingMembership, remembered_peers
from qkt_node.settings import NodeConfig
from qkt_p2p.digests import chunk_digest
from qkt_p2p.discovery import FoundBy
from qkt_p2p.errors import QktError
from qkt_p2p.store.journal import Journal
from qkt_p2p.types import (
    Chunk,
    ChunkInfo,
    ClassName,
    NodeDescription,
    PeerId,
    Query,
    QueryId,
    StudentModel,
    TeachOffer,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DIGEST = chunk_digest(b"x")
QUERY = Query(QueryId("0" * 16), (ClassName("7"),), "moments", 1, 10.0)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(Journal(tmp_path / "state.sqlite")) as journal:
        yield journal


def test_what_a_crash_left_is_put_away(tmp_path: Path, journal: Journal) -> None:
    """What an ended query had in hand goes, and half-written files; a query under way finds what it needs."""
    home, under_way, ended = Home(tmp_path), QUERY.query_id, QueryId("1" * 16)
    home.models.mkdir()
    for query_id in (under_way, ended):
        journal.start_query(replace(QUERY, query_id=query_id), 1.0)
        offer = TeachOffer("moments", 1, QUERY.classes, (ChunkInfo(DIGEST, 1, 1),))
        journal.save_offer(query_id, "peer", offer)
        journal.save_chunks(query_id, "peer", [(DIGEST, Chunk(0, b"x"))])
        for name in (candidate_file(query_id, "phase1"), f".{candidate_file(query_id, 'phase2')}.x1"):
            (home.models / name).touch()
    journal.finish_query(ended, "accepted", "{}")
    home.scratch.mkdir()
    (home.scratch / "old").mkdir()
    for _ in range(2):
        prepare_home(home, journal)
        assert [record.query_id for record in journal.queries_under_way()] == [under_way]
        assert (journal.held_digests(under_way), journal.held_digests(ended)) == ({DIGEST}, set())
        assert journal.load_offer(under_way, "peer") is not None
        assert journal.load_offer(ended, "peer") is None
        assert [path.name for path in home.models.iterdir()] == [candidate_file(under_way, "phase1")]
        assert list(home.scratch.iterdir()) == []


def test_directories_that_were_moved_away_are_made_anew(tmp_path: Path, journal: Journal) -> None:
    """As after `mv models elsewhere`, which error messages advise; others may not look into them."""
    home = Home(tmp_path)
    prepare_home(home, journal)
    for directory in (home.models, home.reports, home.scratch):
        assert directory.stat().st_mode & 0o777 == 0o700


async def test_a_node_without_a_model_has_one_trained(tmp_path: Path, journal: Journal) -> None:
    """The worker is asked only where the home holds no model."""
    home, made = Home(tmp_path), StudentModel(1, (1, 8, 8), (), ())
    prepare_home(home, journal)

    class Trainer:
        async def call(self, operation: Any, argument: None, progress: object) -> StudentModel:
            assert operation.name == "prepare"
            return made

    worker = cast("Any", Trainer())
    model = await prepare_model(home, NodeConfig(), journal=journal, worker=worker, progress=lambda _: None)
    assert model is made


def described(name: str) -> NodeDescription:
    """Return what a peer says of itself."""
    return NodeDescription(1, name, "0.1.0", (), ("moments",), (), 1)


def test_peers_that_answered_are_remembered(journal: Journal) -> None:
    """The address at which a peer answered is kept, with how it was found; one that only calls is not."""
    membership = RememberingMembership(journal)
    first, second = PeerId("a" * 52), PeerId("b" * 52)
    membership.introduce(first, described("one"), address="h:1", found_by=FoundBy.BOOTSTRAP)
    membership.introduce(second, described("two"), address="", found_by=FoundBy.INBOUND)
    assert [member.peer for member in membership.members()] == [first, second]
    assert remembered_peers(journal) == [(first, ("h:1",), FoundBy.BOOTSTRAP)]


def test_only_so_many_peers_are_dialed_again(journal: Journal) -> None:
    """Those seen last come first; a kind of finding that this version does not know is hearsay."""
    for number in range(DIALED_AGAIN + 5):
        journal.remember_peer(
            PeerId(f"{number:x}".rjust(52, "a")),
            "peer",
            addresses=("h:1",),
            found_by="carrier pigeon",
            last_seen_at=float(number),
        )
    found = remembered_peers(journal)
    assert len(found) == DIALED_AGAIN
    assert found[0] == (PeerId(f"{DIALED_AGAIN + 4:x}".rjust(52, "a")), ("h:1",), FoundBy.EXCHANGE)


def test_a_journal_that_fails_does_not_end_a_hello(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk costs the memory of a peer, not the peer."""

    def full(*_: object, **__: object) -> None:
        raise QktError("database or disk is full")

    monkeypatch.setattr(journal, "remember_peer", full)
    membership = RememberingMembership(journal)
    membership.introduce(PeerId("a" * 52), described("one"), address="h:1", found_by=FoundBy.MDNS)
    assert len(membership.live()) == 1
