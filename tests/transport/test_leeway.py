"""How long a sender waits for the reader of its stream."""

from __future__ import annotations

import asyncio

import pytest

from qkt_p2p.limits import SLOWEST_READER_BYTES_PER_SECOND
from qkt_p2p.transport.leeway import Leeway


class Reader:
    """Takes what it is sent after a while, by a clock that passes when it does."""

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    async def take(self, seconds: float) -> None:
        """Let time pass, and lose the stream here where the time is up already."""
        await asyncio.sleep(0)
        self.now += seconds


async def parts_taken(leeway: Leeway, reader: Reader, *, seconds: float, size: int, of: int) -> int:
    """Return how many parts of `size` bytes a reader gets that takes one in `seconds`."""
    for number in range(of):
        try:
            await leeway.wait(reader.take(seconds), size)
        except TimeoutError:
            return number
    return of


@pytest.mark.parametrize(
    ("seconds", "size", "taken"),
    [
        # Next to nothing now and then, until 60 s have been waited in all.
        (30.0, 0, 2),
        # Half of the slowest pace is lost for good.
        (2.0, SLOWEST_READER_BYTES_PER_SECOND, 60),
        # That pace itself, and any faster one, may go on.
        (1.0, SLOWEST_READER_BYTES_PER_SECOND, 1000),
        (50.0, 512 * 1024, 1000),
    ],
)
async def test_a_reader_must_keep_up_a_pace(seconds: float, size: int, taken: int) -> None:
    """Who takes little now and then loses the stream like who takes nothing."""
    reader = Reader()
    leeway = Leeway(60.0, clock=reader.clock)
    assert await parts_taken(leeway, reader, seconds=seconds, size=size, of=1000) == taken


async def test_pauses_of_the_sender_are_not_the_readers_fault() -> None:
    """Signs of life are few bytes, and a stream of them lasts."""
    reader = Reader()
    leeway = Leeway(60.0, clock=reader.clock)
    for _ in range(100):
        assert await parts_taken(leeway, reader, seconds=1.0, size=4, of=1) == 1
        reader.now += 5.0


async def test_a_reader_that_takes_nothing_loses_the_stream() -> None:
    """Whatever it took before."""
    leeway = Leeway(0.01)
    await leeway.wait(asyncio.sleep(0), 10**9)
    with pytest.raises(TimeoutError):
        await leeway.wait(asyncio.Event().wait(), 1)  # type: ignore[arg-type]


async def test_without_a_bound_a_sender_waits() -> None:
    """As the owner's own line does."""
    reader = Reader()
    assert await parts_taken(Leeway(None), reader, seconds=1e9, size=0, of=5) == 5
