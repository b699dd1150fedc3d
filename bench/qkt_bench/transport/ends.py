"""The seam: one end of a way, in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from qkt_bench.transport.load import Load

Arrived = Callable[[], None]
"""Told of each chunk that is where it should be."""


class Asking(Protocol):
    """What the asker's end can do."""

    async def round_trip(self) -> None:
        """Send some bytes there and back."""
        ...

    async def fetch(self, arrived: Arrived) -> None:
        """Take all chunks of the load."""
        ...


@dataclass(frozen=True, slots=True)
class End:
    """`port` is 0 where the end dialed; `asking` is None at the teacher's end."""

    port: int = 0
    asking: Asking | None = None


Opening = Callable[["Load", int], AbstractAsyncContextManager[End]]
"""From the load and the other end's port, 0 for the end that listens."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way for the bytes: its two ends, which of them listens, and what it is in words.

    `as_daemons` sets both processes up as a daemon sets up its own.
    """

    teacher: Opening
    asker: Opening
    about: str
    asker_listens: bool = False
    as_daemons: bool = False
