"""What the frame around every verb does with its answer and with what it raises."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import typer

from qkt_node.cli import main as cli
from qkt_node.cli.output import Answer, Format, Output
from qkt_node.cli.tables import Table
from qkt_p2p.errors import DeadlineError, QktError, UpdateRefusedError, error_classes

Run = Callable[..., int]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command line whose only verb is the given function."""

    def run_verb(verb: Callable[..., Answer], *arguments: str) -> int:
        monkeypatch.setattr(cli, "VERBS", {"try": verb})
        monkeypatch.setattr(cli, "GROUPS", {})
        return cli.main(["try", *arguments])

    return run_verb


def raising(error: BaseException) -> Callable[..., Answer]:
    def verb(output: Output) -> Answer:
        raise error

    return verb


@pytest.mark.parametrize("error", sorted(error_classes().values(), key=str))
def test_every_error_ends_with_its_exit_code(
    run: Run, capsys: pytest.CaptureFixture[str], error: type[QktError]
) -> None:
    """The code, the message and the fix of the error reach machines unchanged."""
    assert run(raising(error("what and where", fix="do this")), "--format", "json") == error.exit_code
    found = json.loads(capsys.readouterr().out)
    assert found["error"] == {"code": error.code, "message": "what and where", "fix": "do this"}
    assert (found["status"], found["exit_code"], found["data"]) == ("error", error.exit_code, {})


@pytest.mark.parametrize(
    ("raised", "code", "sentence"),
    [
        (ZeroDivisionError("by zero"), 1, "unexpected ZeroDivisionError: by zero"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_other_exceptions_end_in_one_sentence(
    run: Run, capsys: pytest.CaptureFixture[str], raised: BaseException, code: int, sentence: str
) -> None:
    """A traceback is shown only with --debug."""
    assert run(raising(raised)) == code
    shown = capsys.readouterr().err
    assert shown.startswith(f"error: {sentence}")
    assert "Traceback" not in shown
    assert run(raising(raised), "--debug") == code
    assert "Traceback" in capsys.readouterr().err


def test_a_failure_may_have_data(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """A refused query tells what it measured, and ends with the code of its error."""

    def verb(output: Output) -> Answer:
        return Answer({"outcome": "refused"}, ["shown"], UpdateRefusedError("kept the old model"))

    assert run(verb, "--format", "json") == 8
    found = json.loads(capsys.readouterr().out)
    assert (found["data"], found["error"]["code"]) == ({"outcome": "refused"}, "refused")
    assert run(verb) == 8
    assert capsys.readouterr().err == "shown\nerror: kept the old model\n"


def test_tables_show_names_as_they_are(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Brackets in a peer's name are no markup, and control characters do not reach the terminal."""

    def verb(output: Output) -> Answer:
        return Answer({}, [Table(["name", "state"], [["[red]x[/red]", "live\x1b[31m"]], title="Peers")])

    assert run(verb) == 0
    shown = capsys.readouterr().err
    assert "[red]x[/red]" in shown
    assert "\x1b" not in shown


def test_notes_and_events_go_to_whom_they_are_for(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Notes are for people and events for those who watch; JSON is one object and nothing else."""

    def verb(output: Output) -> Answer:
        output.note("half way")
        output.event({"step": "probe"})
        output.progress_console().print("bar")
        return Answer({"a": 1})

    shown = {}
    for output_format in Format:
        assert run(verb, f"--format={output_format}") == 0
        shown[output_format] = capsys.readouterr()
    assert (shown[Format.TABLE].out, shown[Format.TABLE].err) == ("", "half way\nbar\n")
    assert shown[Format.JSON].out.count("\n") == 1
    assert shown[Format.JSONL].out.splitlines()[0] == '{"step": "probe"}'
    assert json.loads(shown[Format.JSONL].out.splitlines()[1])["data"] == {"a": 1}
    assert shown[Format.JSON].err == shown[Format.JSONL].err == ""


def test_an_error_within_a_watching_verb_ends_the_stream(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last line of jsonl is the envelope, also where the verb fails."""

    def verb(output: Output) -> Answer:
        output.event({"step": "probe"})
        raise DeadlineError("too late")

    assert run(verb, "--format", "jsonl") == 7
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["exit_code"] == 7


def options_of(command: Any, path: str = "") -> list[tuple[str, Any]]:
    """Return every option of every verb with the verb's name."""
    found = [(path, option) for option in command.params if option.param_type_name == "option"]
    for name, child in getattr(command, "commands", {}).items():
        found += options_of(child, f"{path} {name}".strip())
    return found


def test_every_verb_takes_the_shared_options_and_every_option_has_a_twin() -> None:
    """--home, --format and --debug are everywhere, and no option lacks its QKT_ variable."""
    options = [(path, option) for path, option in options_of(typer.main.get_command(cli.build_app())) if path]
    for verb in cli.VERBS:
        names = {name for path, option in options if path == verb for name in option.opts}
        assert {"--home", "--format", "--debug"} <= names
    for path, option in options:
        assert option.allow_from_autoenv, f"{path} {option.opts}"
        assert option.envvar is None or option.envvar.startswith("QKT_")
