"""What a user of the machine is told who types a command about another user's node, running or not."""

from __future__ import annotations

import os
import pwd
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from qkt_node.cli.main import main
from qkt_node.control.client import connect
from qkt_node.home import Home, lock_home, open_home
from qkt_node.new_home import create_home
from qkt_p2p.errors import NotTrustedError

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = 65534
ROOT_OWNS = {0o700: Path("/root"), 0o755: Path("/usr")}
"""Folders of root on every machine, for whoever runs the tests as another user."""


@contextmanager
def another_user() -> Iterator[None]:
    """Be another user than root until the block ends; who is none already stays who he is."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(before)


def foreign_home(folder: Path, mode: int) -> Path:
    """Return the home of a node that is not of `another_user`, with that mode."""
    if os.geteuid() != 0:
        return ROOT_OWNS[mode]
    for parent in list(folder.parents)[:3]:
        parent.chmod(0o755)
    home, _ = create_home(folder / "home")
    home.root.chmod(mode)
    folder.chmod(0o755)
    return home.root


@pytest.mark.parametrize("mode", [0o700, 0o755])
@pytest.mark.parametrize(
    "words",
    [["status"], ["query", "--classes", "4"], ["start"], ["init"], ["ca", "init", "--federation", "f"]],
)
def test_a_home_of_another_user(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, mode: int, words: list[str]
) -> None:
    """Every verb says whose it is, and never that no daemon runs, whatever can be seen from outside."""
    home = foreign_home(tmp_path, mode)
    # What a command imports may lie where the other user sees nothing.
    main([*words, "--home", str(tmp_path / "none")])
    capsys.readouterr()
    with another_user():
        assert main([*words, "--home", str(home)]) == 5
    owner = pwd.getpwuid(home.stat().st_uid).pw_name
    assert capsys.readouterr().err == (
        f"error: {home} belongs to the user {owner}, and no other user may use it\n"
        f"  fix: run the same as that user: sudo -u {owner} qkt-node ...\n"
    )


def test_a_home_within_a_hidden_folder(tmp_path: Path) -> None:
    """A home that cannot be seen at all is of whoever hides it; one that is only missing is nobody's."""
    home = foreign_home(tmp_path, 0o700) / "below" / "it"
    with another_user(), pytest.raises(NotTrustedError, match="belongs to the user root"):
        open_home(home)


@pytest.mark.parametrize("name", ["control.sock", "lock"])
async def test_a_daemon_of_another_user(tmp_path: Path, name: str) -> None:
    """A home may be shared, and its daemon be another user's: the socket tells, and the lock before it."""
    home = Home(tmp_path)
    with lock_home(home):
        (home.root / name).touch(mode=0o600)
        for path in (*list(home.root.parents)[:3], home.root):
            path.chmod(0o777)
        if os.geteuid() != 0:
            return
        with another_user(), pytest.raises(NotTrustedError, match=f"{name} belongs to the user root"):
            async with connect(home):
                pass
