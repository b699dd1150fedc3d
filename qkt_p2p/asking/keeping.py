"""Saves the chunks of a stream on other threads: some are written while the next are checked."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qkt_p2p.types import Chunk


class Keeping:
    """Calls `save` for chunks on other threads, and `saved` for each here: two batches at once at most.

    What went wrong first, the next call here raises, and leaving it. Whoever leaves has waited for both
    batches: a thread cannot be stopped.
    """

    def __init__(self, save: Callable[[Chunk], None], saved: Callable[[Chunk], None]) -> None:
        self._save = save
        self._saved = saved
        self._batches: list[asyncio.Task[None]] = []
        self._failed: Exception | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._batches:
            await asyncio.wait(self._batches)
        # What was wrong with a chunk, or the disk, counts for more than a stream that broke behind it, or
        # that nobody wants any more.
        if self._failed is not None:
            raise self._failed

    async def put(self, chunks: Sequence[Chunk]) -> None:
        """Begin to save `chunks`, and return when those before are saved."""
        if chunks:
            self._batches.append(asyncio.create_task(self._work(chunks)))
        await self._until(1)

    async def settle(self) -> None:
        """Return when all are saved."""
        await self._until(0)

    async def _until(self, most: int) -> None:
        while len(self._batches) > most:
            await asyncio.wait(self._batches[:1])
            del self._batches[0]
        if self._failed is not None:
            raise self._failed

    async def _work(self, chunks: Sequence[Chunk]) -> None:
        done: list[Chunk] = []

        def work() -> None:
            for chunk in chunks:
                self._save(chunk)
                done.append(chunk)

        try:
            try:
                await asyncio.to_thread(work)
            finally:
                for chunk in done:
                    self._saved(chunk)
        except Exception as error:  # noqa: BLE001 - the next call raises it
            self._failed = self._failed or error


async def on_a_thread(work: Callable[[], None]) -> None:
    """Do what waits for the disk, and raise what it raises.

    Whoever gives it up waits all the same: a thread cannot be stopped.
    """
    task = asyncio.create_task(asyncio.to_thread(work))
    try:
        await asyncio.wait({task})
    finally:
        await asyncio.wait({task})
        task.result()
