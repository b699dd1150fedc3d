"""How long a test waits for what is sure to come, and what it says where that does not come."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PATIENCE_SECONDS = 60.0
"""Longer than any machine needs that does something else meanwhile; no test waits as long unless it fails."""


@asynccontextmanager
async def patience(what: str) -> AsyncIterator[None]:
    """Bound the waiting in the block; raises AssertionError that names `what` did not come."""
    scope = asyncio.timeout(PATIENCE_SECONDS)
    try:
        async with scope:
            yield
    except TimeoutError as error:
        if not scope.expired():
            raise
        raise AssertionError(f"{what}: not within {PATIENCE_SECONDS:.0f} s") from error
