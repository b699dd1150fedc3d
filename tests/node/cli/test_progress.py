"""What a long verb shows while it runs: bars, lines where there is no terminal, events for machines."""

import json

import pytest

from qkt_node.cli.output import Format, Output
from qkt_node.cli.progress import StepBars
from qkt_p2p.types import Progress

STEPS = [
    Progress("discover", 0, 0, "started"),
    Progress("probe", 0, 0, "started"),
    Progress("probe", 1, 2, "a answered"),
    Progress("unheard of", 1, 2, ""),
    Progress("report", 0, 0, "started"),
]


def shown(output_format: Format) -> None:
    """Run through all steps."""
    with StepBars(Output("query", output_format)) as bars:
        bars.begin("0" * 16)
        for step in STEPS:
            bars.show(step)


def test_a_line_for_each_step_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """People who read a file or a pipe get plain text on stderr, each step once."""
    shown(Format.TABLE)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "looking for peers ...\nprobing what they know ...\nwriting the report ...\n"


def test_bars_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal shows each step's title and the latest message."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    shown(Format.TABLE)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "probing what they know" in captured.err
    assert "a answered" in captured.err


def test_events_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    """Each event is one line of jsonl, the first one with the query's identifier."""
    shown(Format.JSONL)
    captured = capsys.readouterr()
    events = [json.loads(line) for line in captured.out.splitlines()]
    assert events[0] == {"event": "started", "query_id": "0" * 16}
    assert events[3] == {
        "event": "progress",
        "step": "probe",
        "done": 1,
        "total": 2,
        "message": "a answered",
    }
    assert len(events) == 1 + len(STEPS)
    assert captured.err == ""


def test_silence_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    """The one object at the end is all that JSON is."""
    shown(Format.JSON)
    assert capsys.readouterr() == ("", "")
