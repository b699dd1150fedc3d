"""What a verb says: tables for people, one JSON object for machines, errors with their fix.

In table format people read the answer on stdout if it is a terminal and else on stderr, so that a pipe
carries only what was asked for as JSON. Notes and errors go to stderr.
"""

from __future__ import annotations

import json
import sys
import traceback
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from qkt_node.cli.fixes import with_home
from qkt_p2p.errors import CancelledError, QktError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rich.console import Console

SCHEMA: Final = "qkt/1"

_WIDE: Final = 200
"""Characters in a line of a table that goes to a file or a pipe, which have no width of their own."""


class Format(StrEnum):
    """How a verb answers."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"


@dataclass(frozen=True, slots=True)
class Table:
    """A table for people; every row has a cell for each column."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a verb answers: `data` for machines, `shown` for people, in order.

    With `error` the verb failed and has data nevertheless, as a refused query does.
    """

    data: Mapping[str, object] = field(default_factory=dict)
    shown: Sequence[str | Table] = ()
    error: QktError | None = None


class Output:
    """The only writer to stdout and stderr of one command line."""

    def __init__(
        self, command: str, output_format: Format, *, debug: bool = False, home: Path | None = None
    ) -> None:
        self.command = command
        self.format = output_format
        self.home = home
        """The home that the commands of a fix are about; None where no one home was named."""
        self._debug = debug

    @property
    def for_people(self) -> bool:
        """Whether the format is one that people read."""
        return self.format is Format.TABLE

    def note(self, text: str) -> None:
        """Tell people something while the verb runs, on stderr; machines are not told."""
        if self.for_people:
            _write_line(text, to_stderr=True)

    def event(self, event: Mapping[str, object]) -> None:
        """Write one event of a watching verb as a line on stdout, in jsonl format only."""
        if self.format is Format.JSONL:
            _write_line(json.dumps(event))

    def line(self, text: str, event: Mapping[str, object]) -> None:
        """Write a line on stdout, where scripts wait for it, in table format; in jsonl format the event."""
        self.event(event)
        if self.for_people:
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()

    def progress_console(self) -> Console:
        """Return the rich console for progress bars: stderr, and silent unless people read it."""
        from rich.console import Console

        return Console(stderr=True, quiet=not self.for_people)

    def answer(self, answer: Answer) -> int:
        """Write the verb's answer and return the exit code."""
        if self.for_people:
            self._show(answer.shown)
        if answer.error is not None:
            return self.fail(answer.error, data=answer.data)
        if not self.for_people:
            self._write_envelope(answer.data, None)
        return 0

    def fail(self, error: BaseException, *, data: Mapping[str, object] | None = None) -> int:
        """Write what went wrong and the next command to type; return the exit code."""
        known = _as_qkt_error(error)
        known.fix = with_home(known.fix, self.home)
        if self._debug:
            sys.stderr.write("".join(traceback.format_exception(error)))
        if self.for_people:
            _write_line(f"error: {known.message}", to_stderr=True)
            if known.fix:
                _write_line(f"  fix: {known.fix}", to_stderr=True)
        else:
            self._write_envelope(data or {}, known)
        return known.exit_code

    def _show(self, shown: Sequence[str | Table]) -> None:
        to_stderr = not sys.stdout.isatty()
        for item in shown:
            if isinstance(item, str):
                _write_line(item, to_stderr=to_stderr)
            else:
                _show_table(item, to_stderr=to_stderr)

    def _write_envelope(self, data: Mapping[str, object], error: QktError | None) -> None:
        envelope = {
            "schema": SCHEMA,
            "command": self.command,
            "status": "ok" if error is None else "error",
            "exit_code": 0 if error is None else error.exit_code,
            "data": data,
            "error": None if error is None else error.as_data(),
        }
        _write_line(json.dumps(envelope))


def _as_qkt_error(error: BaseException) -> QktError:
    """Return the error of our tree that tells people about `error`."""
    if isinstance(error, QktError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return CancelledError("interrupted")
    return QktError(
        f"unexpected {type(error).__name__}: {error}",
        fix="run the same command with --debug, which shows the traceback, and report it",
    )


def _write_line(text: str, *, to_stderr: bool = False) -> None:
    stream = sys.stderr if to_stderr else sys.stdout
    stream.write(f"{_printable(text)}\n")
    stream.flush()


def _printable(text: str) -> str:
    """Replace what could steer a terminal, or not be encoded: names come from peers and from file systems."""
    return "".join(each if each.isprintable() or each in "\n\t" else "\ufffd" for each in text)


def _show_table(table: Table, *, to_stderr: bool) -> None:
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    rendered = RichTable(title=table.title or None, title_justify="left")
    for column in table.columns:
        # On a narrow terminal an id or an address takes more lines: without its end it is of no use.
        rendered.add_column(column, overflow="fold")
    for row in table.rows:
        # Names come from peers: as Text, brackets in them are not taken for markup.
        rendered.add_row(*(Text(_printable(cell)) for cell in row))
    stream = sys.stderr if to_stderr else sys.stdout
    Console(stderr=to_stderr, width=None if stream.isatty() else _WIDE).print(rendered)
