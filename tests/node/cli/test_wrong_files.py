"""Whoever gives a verb of a membership the wrong file is told which one is wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from qkt_node.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def home(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A node that has joined the federation of the authority in its own home."""
    bundle = str(tmp_path / "bundle.pem")
    place = ["--home", str(tmp_path)]
    for words in (
        ["init"],
        ["ca", "init", "--federation", "fed"],
        ["ca", "sign", str(tmp_path / "identity" / "request.pem"), "--out", bundle],
        ["join", "--certificate", bundle],
    ):
        assert main([*words, *place]) == 0
    capsys.readouterr()
    return tmp_path


@pytest.mark.parametrize("content", [None, b"", b"some other text\n", b"\x00" * 70_000])
@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["ca", "sign"], "identity/request.pem"),
        (["ca", "add-root"], "authority/authority.pem"),
        (["join", "--certificate"], "qkt-node ca sign"),
        (["join", "--token-file"], "qkt-node invite"),
        (["revoke", "--install"], "revoked.pem"),
    ],
    ids=" ".join,
)
def test_the_fix_names_the_file(
    home: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, words: list[str], wanted: str
) -> None:
    """Where there is none, an empty one, another one, or a large one; without a library's own words."""
    path = home / "given"
    if content is not None:
        path.write_bytes(content)
    assert main([*words, str(path), "--home", str(home)]) in {2, 3, 5}
    error, fix = capsys.readouterr().err.splitlines()
    assert wanted in fix
    assert "ParseError" not in error


def test_a_wrong_passphrase_founds_no_other_federation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The key is there; only what opens it is not."""
    for name in ("right", "wrong"):
        (tmp_path / name).write_text(f"{name}\n")
    place = ["--home", str(tmp_path), "--passphrase-file"]
    assert main(["ca", "init", "--federation", "fed", *place, str(tmp_path / "right")]) == 0
    capsys.readouterr()
    assert main(["ca", "serve", *place, str(tmp_path / "wrong")]) == 3
    shown = capsys.readouterr().err
    assert "fix: give the --passphrase-file with which the key was made" in shown
    assert "ca init" not in shown
