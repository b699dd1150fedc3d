"""What a teacher hands over waits for its reader: nothing piles up on the way, whatever the response."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import aclosing
from typing import overload

from qkt_p2p.limits import STREAM_WINDOW_BYTES
from qkt_p2p.types import Chunk, Heartbeat, TeachPart
from tests.transport.members import OFFER, TEACH, Clients, Teacher

MIB = 1024 * 1024
CHUNKS = 96
ON_THE_WAY = 16
"""MiB that may be on the way: the stream's window, and what the system keeps for a loopback connection, which
is up to 10 MiB at both ends."""


class Large(Sequence[TeachPart]):
    """An offer and 96 MiB of chunks, and a count of those that were taken."""

    taken = 0

    @overload
    def __getitem__(self, at: int) -> TeachPart: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[TeachPart]: ...

    def __getitem__(self, at: int | slice) -> TeachPart | Sequence[TeachPart]:
        raise NotImplementedError

    def __len__(self) -> int:
        return CHUNKS + 1

    def __iter__(self) -> Iterator[TeachPart]:
        yield OFFER
        for index in range(CHUNKS):
            self.taken += 1
            yield Chunk(index, bytes(MIB))


async def test_a_reader_that_stops_stops_the_teacher(connect: Clients, teacher: Teacher) -> None:
    """Other calls on the line go on meanwhile, and the rest comes when the reader does."""
    assert STREAM_WINDOW_BYTES < ON_THE_WAY * MIB
    teacher.response = large = Large()
    client = connect()
    async with aclosing(client.teach(TEACH)) as parts:
        assert await anext(parts) == OFFER
        before = -1
        while before < large.taken:
            before = large.taken
            # Long enough for a sender that nobody stops to send some MiB.
            for _ in range(20):
                await client.heartbeat(Heartbeat(draining=False, model_version=1))
        assert large.taken <= ON_THE_WAY
        async for _ in parts:
            pass
    assert large.taken == CHUNKS
