"""`budget` tells from files alone what was released of a node's data, what is left, and who was taught."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from qkt_node.cli.main import main
from qkt_node.home import Home
from qkt_node.new_home import create_home
from qkt_p2p.privacy.accountant import mu_of
from qkt_p2p.privacy.ledger import Release
from qkt_p2p.store.journal import Journal
from qkt_p2p.types import ChunkInfo, ClassName, PeerId, TeachOffer

CAT, DOG = ClassName("cat"), ClassName("dog")
VET = PeerId("a" * 52)
BUDGET = "[privacy]\nepsilon = 8.0\n"

Shown = Callable[..., dict[str, Any]]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return create_home(tmp_path / "home")[0]


@pytest.fixture
def shown(home: Home, capsys: pytest.CaptureFixture[str]) -> Shown:
    """Return what the verb tells machines."""

    def ask() -> dict[str, Any]:
        capsys.readouterr()
        assert main(["budget", "--home", str(home.root), "--format", "json"]) == 0
        data: dict[str, Any] = json.loads(capsys.readouterr().out)["data"]
        return data

    return ask


def release_some(home: Home) -> None:
    """Release cat three times and dog once, and teach both to a peer."""
    with closing(Journal(home.database)) as journal:
        mu = mu_of(2.0, 1e-6)
        for key, name in (("1", CAT), ("2", CAT), ("3", CAT), ("4", DOG)):
            journal.note_release(Release(key, name, "inputs", mu, b"noisy"), most_mu=10.0)
        info = (ChunkInfo(bytes(32), 1, 1),)
        journal.note_disclosure(VET, TeachOffer("moments", 1, (CAT, DOG), info, epsilon=2.0, delta=1e-6))


def test_a_node_without_a_budget_says_so(
    home: Home, shown: Shown, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing limits it; before its first start nothing was written, and nothing is now."""
    assert shown() == {
        "epsilon": None,
        "release_epsilon": None,
        "delta": None,
        "classes": [],
        "taught": [],
    }
    assert not home.database.exists()
    assert main(["budget", "--home", str(home.root)]) == 0
    text = capsys.readouterr().err
    assert "what this node teaches carries no noise; [privacy] epsilon in node.toml sets one" in text
    assert "nobody was taught anything yet" in text


def test_what_was_spent_and_what_is_left(home: Home, shown: Shown) -> None:
    """Of three releases of 2 the epsilon together is less than 6; eleven fit into 8."""
    home.config_file.write_text(BUDGET)
    release_some(home)
    data = shown()
    assert (data["epsilon"], data["release_epsilon"], data["delta"]) == (8.0, 2.0, 1e-6)
    cat, dog = data["classes"]
    assert (cat["class"], cat["releases"], cat["releases_left"]) == (CAT, 3, 8)
    assert 2 < cat["epsilon_spent"] < 6
    assert (dog["class"], dog["releases"], dog["releases_left"]) == (DOG, 1, 10)
    assert dog["epsilon_spent"] == pytest.approx(2.0)
    assert [(each["peer"], each["class"], each["epsilon"], each["times"]) for each in data["taught"]] == [
        (VET, CAT, 2.0, 1),
        (VET, DOG, 2.0, 1),
    ]


def test_people_see_tables(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """What each class has spent, and who was taught it."""
    home.config_file.write_text(BUDGET)
    release_some(home)
    assert main(["budget", "--home", str(home.root)]) == 0
    text = capsys.readouterr().err
    assert "epsilon 8 in all, 2 a release, at delta 1e-06, for adding or removing one sample" in text
    for word in (CAT, DOG, "releases left", "taught to", VET[:8], "moments"):
        assert word in text


def test_what_was_released_before_the_budget_was_lowered_counts(home: Home, shown: Shown) -> None:
    """Nothing is left, and nothing is below 0."""
    home.config_file.write_text("[privacy]\nepsilon = 2.0\n")
    release_some(home)
    assert [each["releases_left"] for each in shown()["classes"]] == [0, 0]
