"""What an owner's options become."""

from __future__ import annotations

import pytest

from qkt_node.asking import query_from
from qkt_node.events import QueryOptions
from qkt_node.settings import LearningSection, NodeConfig, NodeSection
from qkt_p2p.errors import UsageError
from qkt_p2p.types import MEDIA

CONFIG = NodeConfig(
    node=NodeSection(seed=5), learning=LearningSection(medium="moments", deadline_seconds=30.0, quorum=2)
)


def test_what_is_left_open_is_as_configured() -> None:
    """Medium, deadline and seed come from node.toml; repeated classes count once; identifiers differ."""
    first, second = (query_from(QueryOptions(classes=("b", "a", "b")), CONFIG) for _ in range(2))
    assert (first.medium, first.deadline_seconds, first.seed) == ("moments", 30.0, 5)
    assert first.quorum == 2
    assert first.classes == ("b", "a")
    assert not first.force
    assert not first.trial
    assert not first.light
    assert first.query_id != second.query_id


def test_what_is_asked_for_wins() -> None:
    """Every option of the owner is taken over."""
    options = QueryOptions(("a",), "auto", deadline_seconds=2.5, seed=9, force=True, trial=True, light=True)
    query = query_from(options, CONFIG)
    assert (query.medium, query.deadline_seconds, query.seed) == ("auto", 2.5, 9)
    assert (query.force, query.trial, query.light) == (True, True, True)


@pytest.mark.parametrize("medium", MEDIA)
def test_every_medium_can_be_asked_for(medium: str) -> None:
    """One by name is the only one that may be used; "auto" stands for all, best first."""
    assert query_from(QueryOptions(("a",), medium), CONFIG).media == (medium,)
    assert query_from(QueryOptions(("a",), "auto"), CONFIG).media == MEDIA


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (QueryOptions(()), "names 1 to 64 classes"),
        (QueryOptions(tuple(map(str, range(65)))), "names 1 to 64 classes"),
        (QueryOptions((" a",)), "' a' is not a class name"),
        (QueryOptions(("a",), medium="ether" * 100), "unknown medium 'etherether"),
        (QueryOptions(("a",), deadline_seconds=-1), "a deadline of -1 s"),
        (QueryOptions(("a",), deadline_seconds=float("nan")), "a deadline of nan s"),
        (QueryOptions(("a",), deadline_seconds=1e9), "a deadline of 1e.09 s"),
    ],
)
def test_what_makes_no_sense(options: QueryOptions, message: str) -> None:
    """Each is refused with what to type instead."""
    with pytest.raises(UsageError, match=message) as raised:
        query_from(options, CONFIG)
    assert raised.value.fix
    assert len(raised.value.message) < 200
