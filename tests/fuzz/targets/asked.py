"""A node that asks, and is answered by whatever a hostile member makes up."""

from __future__ import annotations

import asyncio
import atexit
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager, suppress
from functools import cache
from typing import Any, cast

from qkt_p2p.asking.collection import Collection
from qkt_p2p.digests import chunk_digest
from qkt_p2p.errors import PEER_FAILURES, QktError
from qkt_p2p.outcome import TeacherOutcome
from qkt_p2p.pb import peer_pb2 as pb
from qkt_p2p.store.journal import Journal
from qkt_p2p.transport.client import Line, PeerClient
from qkt_p2p.transport.methods import ATTACH, TEACH
from qkt_p2p.transport.reverse import Attachments
from qkt_p2p.types import (
    Chunk,
    ChunkInfo,
    Heartbeat,
    PeerId,
    TeachEnd,
    TeachOffer,
    TeachPart,
    TeachRequest,
    TeachWait,
)
from qkt_p2p.wire import messages
from qkt_p2p.wire.calls import AnswerPart, CallEnd, encode_answer_part
from tests.fuzz.mutators import frames, joined_frames, split_frames
from tests.fuzz.served import CALLERS, METHODS
from tests.fuzz.target import Target, scratch
from tests.transport.members import ASKER_NODE, ELSEWHERE, PROBE, REPORT, RESPONSE, TEACHER_NODE
from tests.transport.members import TEACH as REQUEST

_ANSWERS = [
    pb.HelloResponse(node=messages.encode_description(TEACHER_NODE)),
    messages.encode_heartbeat(Heartbeat(False, 1, 1), pb.HeartbeatResponse),
    pb.ExchangePeersResponse(peers=messages.encode_peer_addresses(ELSEWHERE)),
    pb.ExchangeRevocationsResponse(lists=b"lists"),
    messages.encode_probe_report(REPORT),
    *(messages.encode_teach_part(part) for part in RESPONSE),
]
_LOOP = asyncio.new_event_loop()
atexit.register(_LOOP.close)


class _Teller:
    """A line on which answers come that were made up before."""

    address = "memory"

    def __init__(self, parts: list[bytes]) -> None:
        self._parts = parts

    async def ask(self, path: str, request: bytes, *, seconds: float) -> bytes:
        return self._parts[0]

    async def stream(self, path: str, request: bytes) -> AsyncGenerator[bytes]:
        for part in self._parts:
            yield part

    async def close(self) -> None:
        """Nothing to close."""


def _client(data: bytes) -> None:
    """Give a node that asks answers of every kind."""

    async def ask() -> None:
        answers = split_frames(data, len(METHODS))
        for number, answer in answers:
            client = PeerClient(CALLERS[0], _Teller([answer]))
            with suppress(*PEER_FAILURES):
                await _asked(client, number)
        parts = [answer for number, answer in answers if METHODS[number] is TEACH]
        with suppress(*PEER_FAILURES):
            async with aclosing(PeerClient(CALLERS[0], _Teller(parts)).teach(REQUEST)) as taught:
                async for _ in taught:
                    pass

    _LOOP.run_until_complete(ask())


async def _asked(client: PeerClient, number: int) -> None:
    calls = (
        lambda: client.hello(ASKER_NODE),
        lambda: client.heartbeat(Heartbeat(False, 1)),
        lambda: client.exchange_peers(ELSEWHERE),
        lambda: client.exchange_revocations(b""),
        lambda: client.probe(PROBE),
    )
    if number < len(calls):
        await calls[number]()


class _Link:
    """The connection to a teacher that says what was made up before."""

    peer = CALLERS[0]

    def __init__(self, parts: list[bytes]) -> None:
        self._client = PeerClient(self.peer, _Teller(parts))

    def teach(self, request: TeachRequest) -> AsyncGenerator[TeachPart]:
        return self._client.teach(request)


@cache
def _journal() -> Journal:
    journal = Journal(scratch() / "state.sqlite")
    atexit.register(journal.close)
    return journal


def _collection(data: bytes) -> None:
    """Collect a response as a query does: what is kept of it is what was offered and asked for."""
    journal, parts = _journal(), [part for _, part in split_frames(data, 1)]

    async def collect() -> None:
        collection = Collection(journal, lambda _: None)
        await collection.receive(cast("Any", _Link(parts)), REQUEST, TeacherOutcome(CALLERS[0], "teacher"))

    try:
        _LOOP.run_until_complete(collect())
    finally:
        kept = {digest for digest, _ in journal.load_chunks(REQUEST.query_id, CALLERS[0])}
        assert kept <= journal.held_digests(REQUEST.query_id)
        journal.drop_responses(REQUEST.query_id)


def _digest_of(data: bytes) -> bytes:
    """Return the digest by which a chunk is known."""
    return chunk_digest(data)


def _responses() -> list[bytes]:
    chunk = b"chunk"
    info = ChunkInfo(_digest_of(chunk), len(chunk), REQUEST.samples_per_class)
    offer = TeachOffer(REQUEST.medium, 2, REQUEST.classes, (info,))
    parts: list[TeachPart] = [TeachWait(1), offer, Chunk(0, chunk), TeachEnd(1)]
    return [
        joined_frames([(0, messages.encode_teach_part(part).SerializeToString()) for part in chosen])
        for chosen in (parts, parts[1:], parts[:3])
    ]


def _sound_answers() -> list[bytes]:
    last = len(METHODS) - 1
    return [joined_frames([(min(at, last), each.SerializeToString()) for at, each in enumerate(_ANSWERS)])]


def _attached(data: bytes) -> None:
    """Ask a peer that nobody can dial, and take as its answer whatever it uploads; the asker always hears."""

    async def attach() -> None:
        lines: list[Line] = []

        @contextmanager
        def adopt(_peer: PeerId, line: Line) -> Iterator[None]:
            lines.append(line)
            yield

        attachments = Attachments(adopt)
        calls = attachments.attach(CALLERS[0], ATTACH.request().SerializeToString())
        await anext(calls)
        asking = asyncio.create_task(_consumed(lines[0].stream(TEACH.path, b"request")))
        await anext(calls)
        with suppress(QktError):
            await attachments.answer(CALLERS[0], _uploaded([part for _, part in split_frames(data, 1)]))
        await calls.aclose()
        with suppress(*PEER_FAILURES):
            await asking

    _LOOP.run_until_complete(attach())


async def _uploaded(parts: list[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def _consumed(parts: AsyncGenerator[bytes]) -> None:
    async with aclosing(parts):
        async for _ in parts:
            pass


def _sound_uploads() -> list[bytes]:
    parts: list[AnswerPart] = [1, b"message", CallEnd()]
    return [
        joined_frames([(0, encode_answer_part(part).SerializeToString()) for part in chosen])
        for chosen in (parts, [*parts[:2], CallEnd(5, "no")], parts[:2], [2, *parts[1:]])
    ]


TARGETS = {
    "client": Target(_client, (), _sound_answers, frames([method.answer for method in METHODS])),
    "collection": Target(_collection, PEER_FAILURES, _responses, frames([pb.TeachResponse])),
    "attached": Target(_attached, (), _sound_uploads, frames([pb.AnswerRequest])),
}
