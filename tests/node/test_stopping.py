"""What stops a process that serves."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from qkt_node.stopping import on_request_to_stop
from tests.patience import patience

REQUESTS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Leave this process's own handling as it was."""
    handlers = {number: signal.getsignal(number) for number in REQUESTS}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", REQUESTS)
async def test_each_request_is_heard(number: signal.Signals) -> None:
    """A closed terminal, too: it would end the process at once, and peers would only notice its silence."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    stopping = asyncio.Event()
    on_request_to_stop(stopping.set)
    os.kill(os.getpid(), number)
    async with patience("it stops"):
        await stopping.wait()


async def test_a_closed_terminal_is_ignored_where_nohup_has_it_so() -> None:
    """What nohup starts outlives its terminal."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    on_request_to_stop(asyncio.Event().set)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
