"""How a command ends that was told to stop: as by Ctrl-C, whoever told it, and once."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

_ENDING: Final = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def ending_like_interrupt() -> Iterator[None]:
    """Take SIGTERM and a closed terminal as Ctrl-C, so that what was started is stopped."""
    with _handling(_ENDING, _interrupt):
        yield


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ignore every request to stop: this is the stopping."""
    with _handling((signal.SIGINT, *_ENDING), signal.SIG_IGN):
        yield


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    signal.raise_signal(signal.SIGINT)


@contextmanager
def _handling(numbers: tuple[signal.Signals, ...], handler: Any) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
