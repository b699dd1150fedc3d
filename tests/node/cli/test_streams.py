"""What a command says when what it should say it on is closed, or full."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = f"{sys.executable} -m qkt_node"
FULL = "error: cannot write the answer: No space left on device\n"
CLOSED = "error: cannot write the answer: Bad file descriptor\n"


def shell(line: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run a command line as a shell does, with its redirections."""
    command = ["/bin/sh", "-c", f"{PROGRAM} {line}", "sh", str(home)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ('init --home "$1" --format json > /dev/full', 1, FULL),
        ('init --home "$1" --format json >&-', 1, CLOSED),
        ('status --home "$1" --format jsonl > /dev/full', 1, FULL),
        ("unheard-of --format json > /dev/full", 1, FULL),
        ("--help > /dev/full", 1, FULL),
        ("--help >&-", 1, CLOSED),
    ],
)
def test_an_answer_that_cannot_be_written_is_told_once(
    tmp_path: Path, line: str, code: int, said: str
) -> None:
    """On stderr, with exit code 1, and without a traceback."""
    done = shell(line, tmp_path / "home")
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 2


@pytest.mark.parametrize("lost", ["2>&-", "2> /dev/full", ">&- 2>&- <&-"])
def test_what_people_do_not_get_to_read_changes_nothing(tmp_path: Path, lost: str) -> None:
    """What was done is done, and what failed has its exit code."""
    home = tmp_path / "home"
    for code, verb in enumerate(("init", "status")):
        done = shell(f'{verb} --home "$1" {lost}', home)
        assert (done.returncode, done.stdout, done.stderr) == (4 * code, "", "")
    assert (home / "node.toml").is_file()
