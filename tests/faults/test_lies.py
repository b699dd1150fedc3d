"""A lying teacher tells exactly the lie that it is told to tell."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qkt_node.cluster.chaos.lies import LIES, Lie, LyingHandler
from qkt_p2p.types import Chunk, QueryId, TeachEnd, TeachOffer, TeachPart, TeachRequest
from tests.faults.bank import BankTeacher, bank
from tests.student.classroom import DOG, ME

REQUEST = TeachRequest(QueryId("0" * 16), "features", 1, 10, (DOG,), (1, 8, 8))
OFFER, DATA = bank("first", REQUEST)
CHUNKS: list[TeachPart] = [Chunk(at, data) for at, data in enumerate(DATA)]
END = TeachEnd(len(CHUNKS))


async def told(lie: Lie | None, request: TeachRequest = REQUEST) -> list[TeachPart]:
    handler = LyingHandler(BankTeacher({DOG: 0.9}, name="first"))
    handler.lie = lie
    return [part async for part in handler.teach(ME, request)]


def spoilt(part: TeachPart) -> Chunk:
    assert isinstance(part, Chunk)
    return replace(part, data=bytes([part.data[0] ^ 0xFF]) + part.data[1:])


RESPONSES: dict[str, list[TeachPart]] = {
    "corrupt-chunk": [OFFER, CHUNKS[0], CHUNKS[1], spoilt(CHUNKS[2]), *CHUNKS[3:], END],
    "truncated-stream": [OFFER, *CHUNKS[:2]],
    "duplicate-chunk": [OFFER, *CHUNKS[:3], CHUNKS[2], *CHUNKS[3:], END],
    "reordered-chunks": [OFFER, *reversed(CHUNKS), END],
}


@pytest.mark.parametrize("kind", LIES)
async def test_each_lie(kind: str) -> None:
    """Everything else is as the honest teacher says it."""
    assert await told(None) == [OFFER, *CHUNKS, END]
    assert await told(Lie(kind, 2)) == RESPONSES[kind]


async def test_a_lie_about_a_chunk_that_is_not_sent_is_none() -> None:
    """Of a response that goes on where another broke off, only the rest is there to lie about."""
    held = tuple(info.digest for info in OFFER.chunks[1:])
    request = replace(REQUEST, held=held)
    assert await told(Lie("corrupt-chunk", 2), request) == [OFFER, CHUNKS[0], TeachEnd(1)]
    assert isinstance((await told(Lie("truncated-stream", 0), request))[-1], TeachOffer)
