"""The one place that configures structlog: console on a terminal, JSON otherwise, always on stderr.

Import this first in a process that lives long. structlog loads rich wherever that is installed, for coloured
tracebacks that a node never prints: four megabytes that a daemon can do without.
"""

from __future__ import annotations

import logging
import sys
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType
    from typing import TextIO


@contextmanager
def _without(package: str) -> Iterator[None]:
    """Let imports of `package` fail, as if it were not installed, unless it is loaded already."""
    if package in sys.modules:
        yield
        return
    # This is how the import system spells "not there".
    sys.modules[package] = cast("ModuleType", None)
    try:
        yield
    finally:
        del sys.modules[package]


with _without("rich"):
    import structlog


class _StandardError:
    """Standard error for as long as there is room: a line that cannot be written ends nothing else."""

    def write(self, text: str) -> int:
        """Write, or lose the text: nobody is left to be told of a log on a full disk."""
        with suppress(OSError):
            return sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, or lose what was not written."""
        with suppress(OSError):
            sys.stderr.flush()


def configure_logging(log_format: str = "auto", level: str = "info") -> None:
    """Send events of `level` and above to stderr as "console" or "json" ("auto": by terminal).

    Warnings of libraries become events: what others send may cause one, and each line shall be JSON.
    """
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    renderer: structlog.typing.Processor = (
        # Where rich is loaded structlog's own choice shows the locals of each frame: private data, in a log.
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        if console
        else structlog.processors.JSONRenderer()
    )
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if not console:
        processors.append(structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*processors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _StandardError())),
        cache_logger_on_first_use=True,
    )
    warnings.showwarning = _log_warning


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Log what `warnings.showwarning` would write."""
    del file, line
    where = f"{Path(filename).name}:{lineno}"
    structlog.get_logger(__name__).warning(
        "library_warned", kind=category.__name__, reason=str(message)[:200], where=where
    )
