"""The ledger: a budget that two writers cannot overdraw, and releases that nothing forgets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from qkt_p2p.errors import BudgetSpentError
from qkt_p2p.privacy.ledger import Release
from qkt_p2p.store.journal import Journal
from qkt_p2p.types import ChunkInfo, ClassName, PeerId, TeachOffer

CAT, DOG = ClassName("cat"), ClassName("dog")
VET, FARM = PeerId("a" * 52), PeerId("b" * 51 + "a")
RELEASE = Release("first", CAT, "inputs", 0.5, b"noisy")
MOST = 1.0


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path / "state.sqlite")
    yield opened
    opened.close()


def release(number: int, class_name: ClassName = CAT) -> Release:
    return replace(RELEASE, key=f"{class_name} {number}", class_name=class_name, data=bytes([number]))


def test_a_release_is_made_once(journal: Journal) -> None:
    """Whoever comes later with the same key gets the first one's data, and nothing is spent."""
    assert journal.released("first") is None
    assert journal.note_release(RELEASE, most_mu=MOST) == b"noisy"
    assert journal.note_release(replace(RELEASE, data=b"other"), most_mu=MOST) == b"noisy"
    assert journal.released("first") == b"noisy"
    assert journal.spent() == {CAT: [0.5]}


def test_a_class_spends_its_own_budget(journal: Journal) -> None:
    """Squares add up: four releases of a half come to 1. What was released stays so."""
    for number in range(4):
        journal.require_room(CAT, 0.5, most_mu=MOST)
        journal.note_release(release(number), most_mu=MOST)
    with pytest.raises(BudgetSpentError, match="budget of cat is spent"):
        journal.note_release(release(4), most_mu=MOST)
    with pytest.raises(BudgetSpentError, match="budget of cat is spent"):
        journal.require_room(CAT, 0.5, most_mu=MOST)
    journal.require_room(DOG, 0.5, most_mu=MOST)
    assert journal.note_release(release(0), most_mu=MOST) == b"\0"
    journal.note_release(release(0, DOG), most_mu=MOST)
    assert journal.spent() == {CAT: [0.5] * 4, DOG: [0.5]}


def test_a_budget_that_was_lowered_is_spent(journal: Journal) -> None:
    """All that was ever released counts."""
    for number in range(3):
        journal.note_release(release(number), most_mu=MOST)
    with pytest.raises(BudgetSpentError):
        journal.note_release(release(3), most_mu=0.6)


def test_two_writers_do_not_overdraw(tmp_path: Path) -> None:
    """Two connections at once, as of two processes: one budget."""
    path, refused, start = tmp_path / "state.sqlite", [], threading.Barrier(2)
    Journal(path).close()

    def spend(first: int) -> None:
        with closing(Journal(path)) as journal:
            start.wait()
            for number in range(first, first + 4):
                try:
                    journal.note_release(release(number), most_mu=MOST)
                except BudgetSpentError:
                    refused.append(number)

    threads = [threading.Thread(target=spend, args=(first,)) for first in (0, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with closing(Journal(path)) as journal:
        assert (len(journal.spent()[CAT]), len(refused)) == (4, 4)


def test_it_outlives_a_restart_and_whatever_is_evicted(tmp_path: Path) -> None:
    """Statistics and banks make room for others, what was released does not."""
    path = tmp_path / "state.sqlite"
    with closing(Journal(path)) as journal:
        journal.note_release(RELEASE, most_mu=MOST)
        journal.evict_statistics(0)
        journal.evict_banks(0)
        journal.drop_remains()
    with closing(Journal(path)) as journal:
        assert journal.released("first") == b"noisy"


def test_whom_it_taught_what(journal: Journal) -> None:
    """A row for each peer, class and medium, which counts; another epsilon is another row."""
    info = (ChunkInfo(bytes(32), 1, 1),)
    noisy = TeachOffer("moments", 1, (CAT, DOG), info, epsilon=2.0, delta=1e-6)
    journal.note_disclosure(VET, noisy)
    journal.note_disclosure(VET, replace(noisy, classes=(CAT,)))
    journal.note_disclosure(FARM, replace(noisy, classes=(CAT,), epsilon=0.0, delta=0.0))
    found = {(each.peer, each.class_name, each.epsilon): each for each in journal.disclosures()}
    assert {key: each.times for key, each in found.items()} == {
        (VET, CAT, 2.0): 2,
        (VET, DOG, 2.0): 1,
        (FARM, CAT, 0.0): 1,
    }
    assert all(0 < each.first_at <= each.last_at for each in found.values())
    assert journal.disclosures()[0].peer == FARM
