"""What people are told to type runs as it is printed, whatever a home is called."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkt_node.cli.fixes import with_home
from qkt_node.cli.main import main
from qkt_node.cluster.layout import ClusterFolder
from qkt_node.new_home import create_home
from qkt_p2p.commands import command
from qkt_p2p.errors import ConfigError

HOME = Path("/a home")
HERE = "--home '/a home'"


@given(st.lists(st.text(), min_size=1))
def test_a_command_reaches_the_program_word_by_word(words: list[str]) -> None:
    """A shell takes apart what was put together."""
    assert shlex.split(command(*words)) == ["qkt-node", *words]


@pytest.mark.parametrize(
    ("fix", "complete"),
    [
        ("qkt-node peers", f"qkt-node peers {HERE}"),
        ("qkt-node models list", f"qkt-node models list {HERE}"),
        ("qkt-node queries show 00", f"qkt-node queries show 00 {HERE}"),
        ("qkt-node query --classes 'a b'", f"qkt-node query {HERE} --classes 'a b'"),
        ("lower it, or ask later: qkt-node peers", f"lower it, or ask later: qkt-node peers {HERE}"),
        ("qkt-node start, then qkt-node status", f"qkt-node start {HERE}, then qkt-node status {HERE}"),
        (
            "qkt-node start --home b, then qkt-node peers",
            f"qkt-node start --home b, then qkt-node peers {HERE}",
        ),
    ],
)
def test_a_command_about_this_node_names_its_home(fix: str, complete: str) -> None:
    """In a sentence, too, and quoted; nothing is added where no one home was named."""
    assert with_home(fix, HOME) == complete
    assert with_home(fix, None) == fix


@pytest.mark.parametrize(
    "fix",
    [
        "",
        "see the daemon's log",
        "--medium noise",
        "qkt-node status --home b",
        "a new home (qkt-node init), a new token",
        "ask for a new token: qkt-node invite --home CA_DIR",
        "qkt-node cluster up --dir x",
        "run it as that user: sudo -u qkt qkt-node ...",
        "qkt-node status --help --home x",
    ],
)
def test_other_fixes_stay_as_they_are(fix: str) -> None:
    """What is about another home, or none, is not completed by this one."""
    assert with_home(fix, HOME) == fix


def test_the_fix_of_a_home_with_a_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Typed as it is printed, it is about this very home: by people's eyes, and by a machine."""
    home = tmp_path / "sp ace"
    monkeypatch.chdir(tmp_path)
    create_home(home)
    assert main(["status", "--home", "sp ace", "--format", "json"]) == 4
    fix = json.loads(capsys.readouterr().out)["error"]["fix"]
    assert shlex.split(fix) == ["qkt-node", "start", "--home", str(home)]
    assert main(["query", "--home", "sp ace", "--classes", " , "]) == 2
    assert "fix: qkt-node query --home 'sp ace' --classes a,b" in capsys.readouterr().err


def test_next_commands_are_quoted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The lines that begin with "next" are typed as well."""
    home = tmp_path / "sp ace"
    assert main(["init", "--home", str(home)]) == 0
    assert f"ca sign '{home}/identity/request.pem' --home CA_DIR" in capsys.readouterr().err
    assert main(["ca", "init", "--home", str(home), "--federation", "fed"]) == 0
    assert f"next: qkt-node invite --serve --home '{home}', then" in capsys.readouterr().err


def test_a_folder_without_a_cluster_names_itself(tmp_path: Path) -> None:
    """The cluster that is asked for is the one that is made."""
    with pytest.raises(ConfigError) as caught:
        ClusterFolder(tmp_path / "a b").load()
    assert shlex.split(caught.value.fix) == ["qkt-node", "cluster", "up", "--dir", str(tmp_path / "a b")]
