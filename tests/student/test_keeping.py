"""Chunks are checked and saved on another thread while others arrive; whoever leaves has waited for it."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from qkt_p2p.asking.keeping import Desk, keeping, on_a_thread
from qkt_p2p.errors import PeerUnavailableError, ProtocolError, QktError
from qkt_p2p.types import Chunk

MOST = 4
CHUNKS = [Chunk(at, bytes([at])) for at in range(MOST)]
WAIT = 30.0


class Disk:
    """Saves chunks when it may, and finds itself full at one; a chunk that is `bad` is not as offered."""

    def __init__(self, full_at: int | None = None, bad: int | None = None) -> None:
        self.steps: list[str] = []
        self.batches: list[list[int]] = []
        self.may_go_on = threading.Event()
        self._full_at, self._bad = full_at, bad
        self._busy = threading.Event()

    @property
    def desk(self) -> Desk:
        return Desk(lambda: self.steps.append("begin"), self.check, self.save)

    def wait_until_busy(self) -> None:
        assert self._busy.wait(WAIT)

    def check(self, chunk: Chunk) -> None:
        self.steps.append(f"check {chunk.index}")
        if chunk.index == self._bad:
            raise ProtocolError(f"chunk {chunk.index} is not what was offered")

    def save(self, chunks: Sequence[Chunk]) -> None:
        self._busy.set()
        assert self.may_go_on.wait(WAIT)
        if any(chunk.index == self._full_at for chunk in chunks):
            raise QktError("no space left")
        self.batches.append([chunk.index for chunk in chunks])


@pytest.fixture
def disk() -> Disk:
    """A disk that holds up nobody."""
    disk = Disk()
    disk.may_go_on.set()
    return disk


@pytest.fixture
async def unseen() -> list[dict[str, Any]]:
    """What asyncio would log: above all, exceptions of tasks that nobody looked at."""
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    return told


async def test_a_thread_does_other_work_in_between(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams of many teachers share a few threads, and none of them keeps one for itself."""
    monkeypatch.setattr("qkt_p2p.asking.keeping.TURN", 1)
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as threads:
        loop.set_default_executor(threads)
        async with keeping(disk.desk, lambda _: None, MOST) as kept:
            for chunk in CHUNKS * 5:
                await kept.put(chunk)
                await asyncio.to_thread(disk.steps.append, "other")
    assert disk.steps.count("other") == len(CHUNKS * 5)
    assert [at for batch in disk.batches for at in batch] == [chunk.index for chunk in CHUNKS * 5]


async def test_all_is_saved_in_order_and_told_of(disk: Disk) -> None:
    """After what the thread begins with, and before the block is left."""
    saved: list[Chunk] = []
    async with keeping(disk.desk, saved.append, MOST) as kept:
        for chunk in CHUNKS * 5:
            await kept.put(chunk)
    assert saved == CHUNKS * 5
    assert disk.steps == ["begin", *(f"check {chunk.index}" for chunk in CHUNKS * 5)]
    assert max(map(len, disk.batches)) <= MOST // 2


async def test_chunks_that_come_together_are_saved_together() -> None:
    """Half of those that may be under way at once, so that the others can arrive meanwhile."""
    disk = Disk()

    def wait() -> None:
        assert disk.may_go_on.wait(WAIT)

    async with keeping(Desk(wait, disk.check, disk.save), lambda _: None, MOST) as kept:
        for chunk in CHUNKS:
            await kept.put(chunk)
        disk.may_go_on.set()
    assert disk.batches == [[0, 1], [2, 3]]


async def test_one_that_nothing_follows_is_saved_soon(disk: Disk) -> None:
    """Though the stream goes on."""
    came = asyncio.Event()
    async with keeping(disk.desk, lambda _: came.set(), MOST) as kept:
        await kept.put(CHUNKS[0])
        await came.wait()
        assert disk.batches == [[0]]


async def test_who_brings_more_than_there_is_room_for_waits() -> None:
    """So memory stays bounded, whatever the disk."""
    disk = Disk()
    async with keeping(disk.desk, lambda _: None, MOST) as kept:
        for chunk in CHUNKS:
            await kept.put(chunk)
        putting = asyncio.ensure_future(kept.put(CHUNKS[0]))
        done, _ = await asyncio.wait({putting}, timeout=0.05)
        assert not done
        disk.may_go_on.set()
        await putting
    assert sum(map(len, disk.batches)) == MOST + 1


@pytest.mark.parametrize("after", [None, PeerUnavailableError("the line broke")])
async def test_what_was_wrong_with_a_chunk_counts_for_more_than_a_break_behind_it(
    after: QktError | None,
) -> None:
    """Whoever sends what it did not offer and goes away has broken the protocol; what came before stays."""
    disk = Disk(bad=1)
    disk.may_go_on.set()
    saved: list[Chunk] = []

    async def receive() -> None:
        async with keeping(disk.desk, saved.append, MOST) as kept:
            for chunk in CHUNKS:
                await kept.put(chunk)
            if after is not None:
                raise after

    with pytest.raises(ProtocolError, match="chunk 1 is not"):
        await receive()
    assert saved == CHUNKS[:1]


async def test_what_cannot_begin_ends_the_stream() -> None:
    """An offer that cannot be saved, before any chunk came."""

    def fail() -> None:
        raise QktError("no space left")

    desk = Desk(fail, lambda _: None, lambda _: None)
    with pytest.raises(QktError, match="no space left"):
        async with keeping(desk, lambda _: None, MOST):
            await asyncio.Event().wait()


async def test_a_wait_that_is_too_long_stays_what_it_is(disk: Disk) -> None:
    """Only what went wrong here takes the place of what the block raises."""
    with pytest.raises(TimeoutError):
        async with keeping(disk.desk, lambda _: None, MOST), asyncio.timeout(0):
            await asyncio.Event().wait()


async def test_whoever_is_cancelled_has_waited_for_the_disk() -> None:
    """What was put is saved and told of, and the cancellation is what is raised."""
    disk, put = Disk(), asyncio.Event()
    saved: list[Chunk] = []

    async def receive() -> None:
        async with keeping(disk.desk, saved.append, MOST) as kept:
            for chunk in CHUNKS:
                await kept.put(chunk)
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
    async with keeping(disk.desk, saved.append, MOST) as kept:
        for chunk in CHUNKS:
            await kept.put(chunk)
        await asyncio.Event().wait()


async def save_one(disk: Disk, saved: list[Chunk]) -> None:
    """Save as an offer is saved."""
    await on_a_thread(lambda: disk.save(CHUNKS[2:3]))


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


async def test_a_chunk_that_cannot_be_counted_ends_the_stream(
    disk: Disk, unseen: list[dict[str, Any]]
) -> None:
    """Whatever goes wrong on the way back from the disk is raised like what goes wrong on it."""

    def count(chunk: Chunk) -> None:
        raise QktError(f"chunk {chunk.index} is not counted")

    async def receive() -> None:
        async with keeping(disk.desk, count, MOST) as kept:
            for chunk in CHUNKS:
                await kept.put(chunk)
            await asyncio.Event().wait()

    with pytest.raises(QktError, match="chunk 0 is not counted"):
        await receive()
    gc.collect()
    assert unseen == []


async def test_what_goes_wrong_while_the_block_is_being_left_changes_nothing(
    unseen: list[dict[str, Any]],
) -> None:
    """The block is interrupted once, and raises what went wrong first."""
    may_go_on, again = threading.Event(), asyncio.Event()

    def save(chunks: Sequence[Chunk]) -> None:
        assert chunks[0].index == 0 or may_go_on.wait(WAIT)

    def count(chunk: Chunk) -> None:
        if chunk is CHUNKS[-1]:
            again.set()
        raise QktError(f"chunk {chunk.index} is not counted")

    async def receive() -> None:
        async with keeping(Desk(lambda: None, lambda _: None, save), count, MOST) as kept:
            try:
                for chunk in CHUNKS:
                    await kept.put(chunk)
                await asyncio.Event().wait()
            finally:
                may_go_on.set()
                await again.wait()

    with pytest.raises(QktError, match="chunk 0 is not counted"):
        await receive()
    gc.collect()
    assert unseen == []
