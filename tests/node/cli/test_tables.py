"""Tables say all that they hold, in words that can be copied, however wide what they are shown on is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from rich.cells import cell_len
from rich.text import Text

from qkt_node.cli.output import Answer, Format, Output
from qkt_node.cli.tables import Table

PEERS = Table(
    ["peer", "id", "state", "address", "found by", "certified until", "seen", "round trip", "knows"],
    [
        [
            "nöde ç",
            "gjzdyjkd",
            "draining",
            "10.0.0.3:7447",
            "inbound",
            "2027-02-27",
            "12 s ago",
            "3.3 ms",
            "2, 3",
        ],
        ["病院", "42m2afxz", "live", "192.168.100.200:7447", "mdns", "2027-02-27", "1 s ago", "-", "4"],
    ],
    spare=("round trip", "found by", "certified until", "seen"),
)
STATUS = Table(
    ["", ""], [["node", "ward 7"], ["peer id", "gjzdyjkd4tnbql2lu6jyy3mxuwk4l5yfasnhhe6ag7f5kli36hgq"]]
)
NEEDED = {"gjzdyjkd", "42m2afxz", "draining", "live", "10.0.0.3:7447", "192.168.100.200:7447"}

Show = Callable[[Table, int], str]


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Show:
    """Return what a terminal of so many columns shows of a table; 0 is a pipe."""

    def shown(table: Table, columns: int) -> str:
        monkeypatch.setenv("COLUMNS", str(columns or 60))
        for stream in ("stdout", "stderr"):
            monkeypatch.setattr(f"sys.{stream}.isatty", lambda: columns > 0)
        Output("peers", Format.TABLE).answer(Answer({}, [table]))
        return Text.from_ansi("".join(capsys.readouterr())).plain

    return shown


@pytest.mark.parametrize("columns", [0, 200, 120, 100, 80, 60, 40, 20])
def test_no_word_is_broken(show: Show, columns: int) -> None:
    """Ids, states and addresses stay whole on every terminal, and a table never leaves it."""
    text = show(PEERS, columns)
    assert set(text.split()) >= NEEDED
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    frame = [line for line in text.splitlines() if line.startswith(("┃", "│"))]
    assert all(cell_len(line) <= (columns or 200) for line in frame)
    assert bool(frame) == (columns not in {20, 40, 60})


def test_what_is_less_needed_makes_room(show: Show) -> None:
    """At the usual 80 columns the table is left whole but for columns that it names."""
    text = show(PEERS, 80)
    assert text.splitlines()[-1] == (
        "left out, for the terminal is narrow: round trip, found by, certified until"
    )
    assert ("certified" in text.splitlines()[1], "seen" in text.splitlines()[1]) == (False, True)
    assert "left out" not in show(PEERS, 200)


def test_a_narrow_terminal_gets_a_line_for_each_cell(show: Show) -> None:
    """Nothing is left out there, and titles and names of columns are kept."""
    lines = show(PEERS, 40).splitlines()
    assert lines[:3] == ["peer             nöde ç", "id               gjzdyjkd", "state            draining"]
    assert lines[9] == ""
    assert len(lines) == 19
    titled = show(Table(["teacher"], [["x" * 50]], title="Teachers"), 40)
    assert titled == f"Teachers\n\nteacher  {'x' * 50}\n"


def test_a_table_of_names_and_values_stays_one(show: Show) -> None:
    """Without names of columns the first cell of a row names it."""
    assert show(STATUS, 40).splitlines() == ["node     ward 7", f"peer id  {STATUS.rows[1][1]}"]
    assert "peer id" in show(STATUS, 80).splitlines()[4]


def test_sentences_are_broken_between_words(show: Show) -> None:
    """A reason takes several lines, and leaves the others as wide as they are."""
    reason = "asked for evidence, and it did not answer within ten seconds"
    text = show(Table(["teacher", "", "address"], [["ward-7", reason, "10.0.0.3:7447"]]), 60)
    assert "│ ward-7  │" in text
    assert {"10.0.0.3:7447", *reason.split()} <= set(text.split())
