"""Bounds in seconds, and what was measured against them."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Stopwatch:
    """Holds tests to bounds; `rows` tells people what was measured."""

    def __init__(self) -> None:
        self.rows: list[str] = []

    @asynccontextmanager
    async def within(self, bound: float, what: str) -> AsyncIterator[None]:
        """Fail the test where the block does not end within `bound` seconds."""
        started = time.monotonic()
        try:
            async with asyncio.timeout(bound):
                yield
        except TimeoutError:
            pytest.fail(f"{what}: not within {bound:g} s")
        self.rows.append(f"{what:<64} {time.monotonic() - started:5.2f} s, at most {bound:g} s")
