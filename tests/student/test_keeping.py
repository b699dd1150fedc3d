"""Two batches of chunks are worked on at once, and whoever leaves has waited for both."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from qkt_p2p.asking.keeping import Keeping, on_a_thread
from qkt_p2p.errors import PeerUnavailableError, ProtocolError, QktError
from qkt_p2p.types import Chunk

CHUNKS = [Chunk(at, bytes([at])) for at in range(4)]
WAIT = 30.0


class Disk:
    """Saves each chunk when it may, up to the first that finds it full."""

    def __init__(self, full_at: int = len(CHUNKS)) -> None:
        self.began: list[int] = []
        self.may_go_on = threading.Event()
        self._full_at = full_at
        self._busy = threading.Event()

    def wait_until_busy(self) -> None:
        assert self._busy.wait(WAIT)

    def save(self, chunk: Chunk) -> None:
        self.began.append(chunk.index)
        self._busy.set()
        assert self.may_go_on.wait(WAIT)
        if chunk.index >= self._full_at:
            raise QktError("no space left")


@pytest.fixture
async def unseen() -> list[dict[str, Any]]:
    """What asyncio would log: above all, exceptions of tasks that nobody looked at."""
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    return told


async def test_a_batch_is_checked_while_the_one_before_is_written() -> None:
    """Neither of the two ends before the other has begun, and all are told of."""
    meeting = threading.Barrier(2, timeout=WAIT)
    saved: list[Chunk] = []

    def save(_chunk: Chunk) -> None:
        meeting.wait()

    async with Keeping(save, saved.append) as keeping:
        for chunk in CHUNKS:
            await keeping.put([chunk])
    assert sorted(saved, key=lambda chunk: chunk.index) == CHUNKS


async def test_a_third_batch_waits_for_the_first() -> None:
    """So memory stays bounded, whatever the disk."""
    disk = Disk()
    async with Keeping(disk.save, lambda _: None) as keeping:
        await keeping.put(CHUNKS[:1])
        putting = asyncio.ensure_future(keeping.put(CHUNKS[1:2]))
        done, _ = await asyncio.wait({putting}, timeout=0.05)
        assert not done
        disk.may_go_on.set()
        await putting
        await keeping.settle()
        assert sorted(disk.began) == [0, 1]


@pytest.mark.parametrize("after", [None, PeerUnavailableError("the line broke")])
async def test_what_was_wrong_with_a_chunk_counts_for_more_than_a_break_behind_it(
    after: QktError | None,
) -> None:
    """A teacher that sends what it did not offer and goes away has broken the protocol."""

    def save(chunk: Chunk) -> None:
        raise ProtocolError(f"chunk {chunk.index} is not what was offered")

    saved: list[Chunk] = []

    async def receive() -> None:
        async with Keeping(save, saved.append) as keeping:
            await keeping.put(CHUNKS)
            if after is not None:
                raise after

    with pytest.raises(ProtocolError, match="chunk 0 is not"):
        await receive()
    assert saved == []


async def test_whoever_is_cancelled_has_waited_for_the_disk() -> None:
    """What was being saved is saved and told of, and the cancellation is what is raised."""
    disk, put = Disk(), asyncio.Event()
    saved: list[Chunk] = []

    async def receive() -> None:
        async with Keeping(disk.save, saved.append) as keeping:
            await keeping.put(CHUNKS)
            put.set()
            await asyncio.Event().wait()

    receiving = asyncio.ensure_future(receive())
    await put.wait()
    receiving.cancel()
    done, _ = await asyncio.wait({receiving}, timeout=0.05)
    assert not done
    disk.may_go_on.set()
    await asyncio.wait({receiving})
    assert receiving.cancelled()
    assert saved == CHUNKS


async def keep(disk: Disk, saved: list[Chunk]) -> None:
    """Wait as a stream does of which more may come."""
    async with Keeping(disk.save, saved.append) as keeping:
        await keeping.put(CHUNKS)
        await asyncio.Event().wait()


async def save_one(disk: Disk, saved: list[Chunk]) -> None:
    """Save as an offer is saved."""
    await on_a_thread(lambda: disk.save(CHUNKS[-1]))


@pytest.mark.parametrize("work", [keep, save_one])
async def test_a_disk_that_fails_whoever_is_cancelled_is_told_of_once(
    unseen: list[dict[str, Any]], work: Callable[[Disk, list[Chunk]], Awaitable[None]]
) -> None:
    """Whoever is cut while the disk runs full raises that, and no task is left with a secret."""
    disk, saved = Disk(full_at=2), list[Chunk]()
    working = asyncio.ensure_future(work(disk, saved))
    await asyncio.to_thread(disk.wait_until_busy)
    working.cancel()
    done, _ = await asyncio.wait({working}, timeout=0.05)
    assert not done
    disk.may_go_on.set()
    with pytest.raises(QktError, match="no space left") as caught:
        await working
    assert saved in ([], CHUNKS[:2])
    del working, done, caught
    gc.collect()
    assert unseen == []


async def test_a_chunk_that_cannot_be_counted_ends_the_stream(unseen: list[dict[str, Any]]) -> None:
    """Whatever goes wrong on the way back from the disk is raised like what goes wrong on it."""

    def count(chunk: Chunk) -> None:
        raise QktError(f"chunk {chunk.index} is not counted")

    with pytest.raises(QktError, match="chunk 0 is not counted"):
        async with Keeping(lambda _: None, count) as keeping:
            await keeping.put(CHUNKS)
    gc.collect()
    assert unseen == []
