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
from qkt_node.cli.streams import put, put_if_possible
from qkt_node.cli.tables import drawn, printable
from qkt_p2p.errors import CancelledError, QktError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rich.console import Console

    from qkt_node.cli.tables import Table

SCHEMA: Final = "qkt/1"


class Format(StrEnum):
    """How a verb answers."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"


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
        self._lost = False
        """Whether stdout did not take what was written there."""

    @property
    def for_people(self) -> bool:
        """Whether the format is one that people read."""
        return self.format is Format.TABLE

    def note(self, text: str) -> None:
        """Tell people something while the verb runs, on stderr; machines are not told."""
        if self.for_people:
            _tell(f"{printable(text)}\n")

    def event(self, event: Mapping[str, object]) -> None:
        """Write one event of a watching verb as a line on stdout, in jsonl format only."""
        if self.format is Format.JSONL:
            self._write(json.dumps(event))

    def line(self, text: str, event: Mapping[str, object]) -> None:
        """Write a line on stdout, where scripts wait for it, in table format; in jsonl format the event."""
        self.event(event)
        if self.for_people:
            self._write(text)

    def progress_console(self) -> Console:
        """Return the rich console for progress bars: stderr, and silent unless people read it."""
        from rich.console import Console

        return Console(stderr=True, quiet=not self.for_people)

    def answer(self, answer: Answer) -> int:
        """Write the verb's answer and return the exit code; raises QktError where stdout does not take it."""
        if self.for_people:
            self._show(answer.shown)
        if answer.error is not None:
            return self.fail(answer.error, data=answer.data)
        if not self.for_people:
            self._write_envelope(answer.data, None)
        return 0

    def fail(self, error: BaseException, *, data: Mapping[str, object] | None = None) -> int:
        """Write what went wrong and the next command to type; return the exit code.

        That goes to stderr also for machines where stdout takes nothing.
        """
        known = _as_qkt_error(error)
        known.fix = with_home(known.fix, self.home)
        if self._debug:
            _tell("".join(traceback.format_exception(error)))
        if not self.for_people and not self._lost:
            try:
                self._write_envelope(data or {}, known)
            except QktError as lost:
                known = lost
        if self.for_people or self._lost:
            fix = f"\n  fix: {known.fix}" if known.fix else ""
            _tell(printable(f"error: {known.message}{fix}\n"))
        return known.exit_code

    def _show(self, shown: Sequence[str | Table]) -> None:
        on_stdout = sys.stdout.isatty()
        stream = sys.stdout if on_stdout else sys.stderr
        for item in shown:
            text = printable(item) if isinstance(item, str) else drawn(item, stream)
            if on_stdout:
                self._write(text)
            else:
                _tell(f"{text}\n")

    def _write_envelope(self, data: Mapping[str, object], error: QktError | None) -> None:
        envelope = {
            "schema": SCHEMA,
            "command": self.command,
            "status": "ok" if error is None else "error",
            "exit_code": 0 if error is None else error.exit_code,
            "data": data,
            "error": None if error is None else error.as_data(),
        }
        self._write(json.dumps(envelope))

    def _write(self, line: str) -> None:
        """Write a line on stdout; raises QktError where that does not take it."""
        try:
            put(sys.stdout, f"{line}\n")
        except BrokenPipeError:
            # Whoever reads has enough.
            raise
        except OSError as error:
            self._lost = True
            raise unwritable(error) from error


def unwritable(error: OSError) -> QktError:
    """Return the error that says why stdout did not take an answer."""
    return QktError(
        f"cannot write the answer: {error.strerror}",
        fix="make room where stdout leads, or send it elsewhere",
    )


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


def _tell(text: str) -> None:
    """Write on stderr what nobody's answer is, so that it may be lost."""
    put_if_possible(sys.stderr, text)
