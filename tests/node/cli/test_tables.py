"""Tables say all that they hold, however wide what they are shown on is."""

from __future__ import annotations

import pytest

from qkt_node.cli.output import Answer, Format, Output, Table

CELLS = [f"{letter * 12}:7447" for letter in "abcdefghi"]


@pytest.mark.parametrize("terminal", [False, True])
def test_no_cell_is_cut_off(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    """A pipe gets long lines; on a narrow terminal a cell takes several."""
    monkeypatch.setenv("COLUMNS", "60")
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(f"sys.{stream}.isatty", lambda: terminal)
    Output("peers", Format.TABLE).answer(Answer({}, [Table([""] * len(CELLS), [CELLS])]))
    shown = "".join(capsys.readouterr())
    assert "\N{HORIZONTAL ELLIPSIS}" not in shown
    if terminal:
        assert all(shown.count(letter) == 12 for letter in "abcdefghi")
    else:
        assert all(cell in shown for cell in CELLS)
