"""How a process that serves is told to stop."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def on_request_to_stop(stop: Callable[[], None]) -> None:
    """Have the running loop call `stop` at SIGTERM, at Ctrl-C, and when the terminal is closed.

    The last not where it is ignored, as under nohup.
    """
    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    for number in numbers:
        asyncio.get_running_loop().add_signal_handler(number, stop)
