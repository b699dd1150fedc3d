"""A stream that is read ahead: nothing is lost or reordered, and no more waits than may."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from qkt_p2p.asking.arrivals import Arrivals

MOST = 4


class Numbers:
    """A stream of numbers that counts how many were read, and ends with an error if there is one."""

    def __init__(self, count: int, error: Exception | None = None, *, then_waits: bool = False) -> None:
        self.read = 0
        self.closed = False
        self._count, self._error, self._then_waits = count, error, then_waits

    async def parts(self) -> AsyncGenerator[int]:
        try:
            for number in range(self._count):
                self.read += 1
                yield number
            if self._then_waits:
                await asyncio.Event().wait()
            if self._error is not None:
                raise self._error
        finally:
            self.closed = True


async def settle() -> None:
    """Let the reader read as far as it may."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_all_parts_come_in_order_and_no_more_wait_than_may() -> None:
    """Whoever takes its time has the stream wait, too."""
    numbers = Numbers(20)
    found: list[int] = []
    async with Arrivals(numbers.parts(), MOST) as arrivals:
        while (number := await arrivals.take()) is not None:
            await settle()
            batch = [number, *arrivals.take_waiting()]
            found += batch
            assert 1 <= len(batch) <= MOST
            await settle()
            assert numbers.read <= len(found)
        assert await arrivals.take() is None
        assert arrivals.take_waiting() == []
    assert found == list(range(20))
    assert numbers.closed


async def test_what_has_come_can_be_taken_after_a_stop() -> None:
    """Nothing is read that nobody can take."""
    numbers = Numbers(20)
    async with Arrivals(numbers.parts(), MOST) as arrivals:
        assert await arrivals.take() == 0
        await settle()
        await arrivals.stop()
        assert arrivals.take_waiting() == list(range(1, MOST)) == list(range(1, numbers.read))


async def test_an_error_comes_after_all_that_came_before_it() -> None:
    """As if nothing had been read ahead."""
    async with Arrivals(Numbers(3, ValueError("broke")).parts(), MOST) as arrivals:
        await settle()
        assert [await arrivals.take(), *arrivals.take_waiting()] == [0, 1, 2]
        for _ in range(2):
            with pytest.raises(ValueError, match="broke"):
                await arrivals.take()


@pytest.mark.parametrize("then_waits", [True, False])
async def test_whoever_leaves_ends_the_stream(then_waits: bool) -> None:
    """Also one that would still wait, or that has failed where nobody looked."""
    numbers = Numbers(2, ValueError("broke"), then_waits=then_waits)
    async with Arrivals(numbers.parts(), MOST) as arrivals:
        assert await arrivals.take() == 0
        await settle()
    assert numbers.closed
