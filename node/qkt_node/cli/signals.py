"""How a command ends that was told to stop: as by Ctrl-C, whoever told it, and once."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

_ENDING: Final = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def ending_like_interrupt() -> Iterator[None]:
    """Take SIGTERM and a closed terminal as Ctrl-C, so that what was started is stopped."""
    # Not by sending SIGINT: whatever a shell runs in the background ignores that one.
    with _handling(_ENDING, signal.default_int_handler):
        yield


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ignore every request to stop: this is the stopping."""
    with _handling((signal.SIGINT, *_ENDING), signal.SIG_IGN):
        yield


@contextmanager
def _handling(numbers: tuple[signal.Signals, ...], handler: Any) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
