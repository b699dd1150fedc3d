"""The parts of a stream that arrive while those before them are worked on: a few, and never more."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Generic, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

T = TypeVar("T")


class Arrivals(Generic[T]):
    """Reads a stream ahead while it is entered: at most `most` of its parts were taken last or wait."""

    def __init__(self, parts: AsyncGenerator[T], most: int) -> None:
        self._parts = parts
        self._room = asyncio.Semaphore(most)
        self._waiting: asyncio.Queue[T | None] = asyncio.Queue()
        self._taken = 0

    async def __aenter__(self) -> Self:
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Read nothing more; what waits can still be taken."""
        self._reading.cancel()
        # What it raised counts for nobody who has left: it is not looked at any more.
        await asyncio.gather(self._reading, return_exceptions=True)

    async def take(self) -> T | None:
        """Return the next part, None at the end. What the stream raises, this raises after all its parts."""
        while self._taken:
            self._taken -= 1
            self._room.release()
        part = await self._waiting.get()
        if part is None:
            # Again for whoever asks again.
            self._waiting.put_nowait(None)
            await self._reading
            return None
        self._taken += 1
        return part

    @property
    def waiting(self) -> bool:
        """Whether there is something to take at once."""
        return not self._waiting.empty()

    def take_waiting(self) -> list[T]:
        """Return what has arrived by now, beside what was taken last."""
        parts = []
        while not self._waiting.empty():
            part = self._waiting.get_nowait()
            if part is None:
                self._waiting.put_nowait(None)
                break
            parts.append(part)
        self._taken += len(parts)
        return parts

    async def _read(self) -> None:
        try:
            async with aclosing(self._parts) as parts:
                await self._room.acquire()
                async for part in parts:
                    self._waiting.put_nowait(part)
                    await self._room.acquire()
        finally:
            self._waiting.put_nowait(None)
