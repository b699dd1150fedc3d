"""One question to the daemon of a home, and how its answers are shown."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from qkt_node.cli.awaiting import run

if TYPE_CHECKING:
    from qkt_node.control.client import ControlClient

T = TypeVar("T")


def ask_daemon(home: Path, question: Callable[["ControlClient"], Awaitable[T]]) -> T:
    """Return the daemon's answer; raises NotRunningError where none runs on `home`."""

    from qkt_node.home import open_home

    opened = open_home(home)

    async def ask() -> T:
        from qkt_node.control.client import connect

        async with connect(opened) as client:
            return await question(client)

    return run(ask())


def shown_time(seconds: float) -> str:
    """Return seconds since 1970 as people read them."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
