"""Runs what a verb awaits: asyncio takes as long to import as typer's half, and --help does without."""

from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` returns, on an event loop of its own."""
    import asyncio

    return asyncio.run(work)
