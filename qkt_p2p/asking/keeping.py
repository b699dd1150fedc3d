"""Checks and saves the chunks of a stream on another thread, while the next ones arrive."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Sequence

    from qkt_p2p.types import Chunk


SOON_SECONDS: Final = 0.01
"""How long a chunk may wait to be saved together with the next, and a thread for it: a row takes as long as a
check, and so does it to hand a chunk over to a thread."""

TURN: Final = 16
"""Batches after which a thread does other work, if there is any: a stream may flow for minutes."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What the thread does: `begin` once, `check` for each chunk, and `save` for those that passed."""

    begin: Callable[[], None]
    check: Callable[[Chunk], None]
    save: Callable[[Sequence[Chunk]], None]


@asynccontextmanager
async def keeping(desk: Desk, saved: Callable[[Chunk], None], most: int) -> AsyncGenerator[Keeping]:
    """Work at `desk` on what is put there, at most `most` chunks at once; call `saved` here for each.

    What goes wrong first ends the block at once, and is raised by it. Whoever leaves has waited until the
    thread saved all that was put before: it cannot be stopped.
    """
    found = Keeping(desk, saved, most)
    try:
        async with asyncio.timeout(None) as found.interrupt:
            yield found
    except TimeoutError:
        if found.failed is None:
            raise
    finally:
        found.interrupt = None
        await found.end()
        # What was wrong with a chunk, or the disk, counts for more than a stream that broke behind it, or
        # that nobody wants any more.
        if found.failed is not None:
            raise found.failed


class Keeping:
    """The chunks of one stream between the event loop and the thread that works on them."""

    def __init__(self, desk: Desk, saved: Callable[[Chunk], None], most: int) -> None:
        self._desk = desk
        self._saved = saved
        self._most = most
        self.failed: Exception | None = None
        self.interrupt: asyncio.Timeout | None = None
        self._room = asyncio.Semaphore(most)
        self._waiting: SimpleQueue[Chunk | None] = SimpleQueue()
        self._over = False
        self._loop = asyncio.get_running_loop()
        self._turn: asyncio.Future[None] | None = None
        self._take_turn(self._begin)

    async def put(self, chunk: Chunk) -> None:
        """Hand a chunk over, when there is room for it."""
        await self._room.acquire()
        self._waiting.put(chunk)
        if self._turn is None and self.failed is None:
            self._take_turn(self._work)

    async def end(self) -> None:
        """Return when all is done."""
        self._over = True
        self._waiting.put(None)
        while self._turn is not None:
            await _until_done(self._turn)

    def _take_turn(self, work: Callable[[], None]) -> None:
        self._turn = self._loop.run_in_executor(None, work)
        self._turn.add_done_callback(self._after_turn)

    def _after_turn(self, turn: asyncio.Future[None]) -> None:
        self._turn = None
        error = turn.exception()
        if isinstance(error, Exception):
            self._fail(error)
        elif self.failed is None and not self._waiting.empty():
            self._take_turn(self._work)

    def _begin(self) -> None:
        self._desk.begin()
        self._work()

    def _work(self) -> None:
        """Work until nothing comes, or for a turn."""
        for _ in range(TURN):
            if not self._save_some():
                break

    def _save_some(self) -> bool:
        """Check chunks as they come, save together those that come soon; return whether there were any."""
        good: list[Chunk] = []
        try:
            for chunk in self._coming():
                self._desk.check(chunk)
                good.append(chunk)
        finally:
            if good:
                self._desk.save(good)
                self._loop.call_soon_threadsafe(self._count, good)
        return bool(good)

    def _coming(self) -> Iterator[Chunk]:
        for _ in range(self._most // 2):
            try:
                chunk = self._waiting.get(timeout=0 if self._over else SOON_SECONDS)
            except Empty:
                return
            if chunk is None:
                return
            yield chunk

    def _count(self, chunks: Sequence[Chunk]) -> None:
        for chunk in chunks:
            self._room.release()
            try:
                self._saved(chunk)
            except Exception as error:  # noqa: BLE001 - the block raises it
                self._fail(error)

    def _fail(self, error: Exception) -> None:
        if self.failed is not None:
            # The block is being left already, and cannot be interrupted again.
            return
        self.failed = error
        if self.interrupt is not None:
            self.interrupt.reschedule(self._loop.time())


async def on_a_thread(work: Callable[[], None]) -> None:
    """Do what waits for the disk, and raise what it raises."""
    task = asyncio.create_task(asyncio.to_thread(work))
    try:
        await _until_done(task)
    finally:
        task.result()


async def _until_done(work: asyncio.Future[None]) -> None:
    """Return when `work` is done; whoever gives it up waits all the same: a thread cannot be stopped."""
    try:
        await asyncio.wait({work})
    finally:
        await asyncio.wait({work})
