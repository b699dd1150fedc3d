"""How a command ends that was told to stop: as by Ctrl-C, whoever told it, and once."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

_ENDING: Final = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def ending_like_interrupt() -> Iterator[None]:
    """Take SIGTERM and a closed terminal as Ctrl-C, so that what was started is stopped.

    Not where they are ignored, as the latter under nohup.
    """
    heard = [number for number in _ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    # Not by sending SIGINT: whatever a shell runs in the background ignores that one.
    with _handling(heard, signal.default_int_handler):
        yield


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ignore every request to stop: this is the stopping."""
    with _handling((signal.SIGINT, *_ENDING), signal.SIG_IGN):
        yield


@contextmanager
def _handling(numbers: Sequence[signal.Signals], handler: Any) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
