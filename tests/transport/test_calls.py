"""The calls between two nodes: what arrives, who is believed to call, and how calls end early."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from qkt_p2p.errors import PeerError, PeerRefusedError, PeerUnavailableError, ProtocolError
from qkt_p2p.limits import MAX_MESSAGE_BYTES
from qkt_p2p.pb import peer_pb2 as pb
from qkt_p2p.transport.client import Deadlines, PeerClient
from qkt_p2p.transport.methods import (
    ANSWER,
    ATTACH,
    EXCHANGE_PEERS,
    EXCHANGE_REVOCATIONS,
    HEARTBEAT,
    HELLO,
    PROBE,
    SERVICE,
    TEACH,
    Method,
)
from qkt_p2p.types import Chunk, Heartbeat, PeerId, TeachPart, short
from qkt_p2p.wire import messages
from tests.patience import patience
from tests.transport.members import (
    ASKER_NODE,
    ELSEWHERE,
    OFFER,
    REPORT,
    RESPONSE,
    TEACHER_NODE,
    Clients,
    Teacher,
    Way,
)
from tests.transport.members import PROBE as PROBE_REQUEST
from tests.transport.members import TEACH as TEACH_REQUEST


async def collected(client: PeerClient) -> list[TeachPart]:
    async with aclosing(client.teach(TEACH_REQUEST)) as parts:
        return [part async for part in parts]


METHODS: list[Method[Any, Any]] = [HELLO, HEARTBEAT, EXCHANGE_PEERS, EXCHANGE_REVOCATIONS, PROBE, TEACH]
BEAT = Heartbeat(draining=True, model_version=7, revocations=2**64 - 1)
LISTS = b"lists of the asker"
CALLS: dict[str, Callable[[PeerClient], Awaitable[object]]] = {
    "hello": lambda client: client.hello(ASKER_NODE),
    "heartbeat": lambda client: client.heartbeat(BEAT),
    "exchange": lambda client: client.exchange_peers(ELSEWHERE),
    "revocations": lambda client: client.exchange_revocations(LISTS),
    "probe": lambda client: client.probe(PROBE_REQUEST),
    "teach": collected,
}
MEBIBYTE = 1024 * 1024
AT_ONCE = Deadlines(call=0.05, heartbeat=0.05, probe=0.05, stall=0.05)

every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())


def test_every_method_of_the_service_is_called_as_it_is_declared() -> None:
    """Names, directions and messages are those of the protocol's file."""
    declared = [(m.name, m.input_type.name, m.output_type.name) for m in SERVICE.methods]
    every = [*METHODS, ATTACH, ANSWER]
    assert declared == [(m.name, m.request.__name__, m.answer.__name__) for m in every]
    assert [m.name for m in SERVICE.methods if m.server_streaming] == [TEACH.name, ATTACH.name]
    assert [m.name for m in SERVICE.methods if m.client_streaming] == [ANSWER.name]


async def test_what_is_said_arrives_and_is_answered(connect: Clients, teacher: Teacher) -> None:
    """Each call carries its argument there and the answer back."""
    client = connect()
    assert await client.hello(ASKER_NODE) == TEACHER_NODE
    assert await client.heartbeat(BEAT) == Heartbeat(draining=False, model_version=2)
    assert await client.exchange_peers(ELSEWHERE) == ELSEWHERE
    assert await client.exchange_revocations(LISTS) == b"lists of the teacher"
    assert await client.probe(PROBE_REQUEST) == REPORT
    assert await collected(client) == list(RESPONSE)
    assert teacher.heard == [ASKER_NODE, BEAT, ELSEWHERE, LISTS, PROBE_REQUEST, TEACH_REQUEST]


async def test_the_caller_is_whom_the_line_proves(connect: Clients, teacher: Teacher, way: Way) -> None:
    """No message says who sends it: the handler gets the peer id of the certificate."""
    for call in CALLS.values():
        await call(connect())
    assert teacher.callers == [way.asker] * len(CALLS)


async def test_bytes_of_probes_and_responses_are_counted(connect: Clients) -> None:
    """What a query costs is the same on every line; beats and introductions are not the query's."""
    client = connect()
    for call in CALLS.values():
        await call(client)
    sent = [messages.encode_probe_request(PROBE_REQUEST), messages.encode_teach_request(TEACH_REQUEST)]
    received = [messages.encode_probe_report(REPORT), *map(messages.encode_teach_part, RESPONSE)]
    assert client.bytes_sent == sum(message.ByteSize() for message in sent)
    assert client.bytes_received == sum(message.ByteSize() for message in received)


@every_call
async def test_a_peer_that_does_not_answer_in_time_is_unavailable(
    connect: Clients, teacher: Teacher, call: Callable[[PeerClient], Awaitable[object]]
) -> None:
    """Every call has its deadline, after which the peer's work on it, if it began, is ended too."""
    teacher.busy = True
    with pytest.raises(PeerUnavailableError, match=r"no answer within|nothing arrived for"):
        await call(connect(AT_ONCE))
    # On a busy machine the deadline can pass while the connection is still made.
    if teacher.began.is_set():
        async with patience("the teacher is told"):
            await teacher.ended.wait()


async def test_many_probes_have_more_time(connect: Clients, teacher: Teacher) -> None:
    """A large model takes eight times as long for eight times as many."""
    teacher.busy = True
    client = connect(Deadlines(probe=0.01))
    for probes, seconds in ((1, "0.01"), (1024, "0.01"), (8192, "0.08")):
        with pytest.raises(PeerUnavailableError, match=f"no answer within {seconds} s"):
            await client.probe(replace(PROBE_REQUEST, probes=probes))


async def test_an_answer_behind_a_stream_is_waited_for(connect: Clients, teacher: Teacher) -> None:
    """On a slow link chunks take long, and giving the connection up for a late beat would lose them."""
    client = connect(Deadlines(heartbeat=0.0))
    async with aclosing(client.teach(TEACH_REQUEST)) as parts:
        assert await anext(parts) == OFFER
        teacher.busy = True
        beat = asyncio.create_task(client.heartbeat(BEAT))
        async with patience("the beat arrives"):
            await teacher.began.wait()
        teacher.release.set()
        assert not (await beat).draining
    teacher.release.clear()
    with pytest.raises(PeerUnavailableError, match="no answer within 0"):
        await client.heartbeat(BEAT)


@every_call
async def test_a_peer_that_vanishes_during_a_call_is_unavailable(
    connect: Clients, teacher: Teacher, way: Way, call: Callable[[PeerClient], Awaitable[object]]
) -> None:
    """The caller need not wait for a deadline."""
    teacher.busy = True
    calling = asyncio.ensure_future(call(connect()))
    await teacher.began.wait()
    await way.vanish()
    with pytest.raises(PeerUnavailableError):
        await calling


@every_call
async def test_a_peer_that_is_gone_is_unavailable(
    connect: Clients, way: Way, call: Callable[[PeerClient], Awaitable[object]]
) -> None:
    """A call to where nobody serves fails at once, and names the peer and the address."""
    await way.vanish()
    client = connect()
    with pytest.raises(PeerUnavailableError, match=f"peer {short(way.teacher)} at {client.address}: "):
        await call(client)


async def test_parts_that_came_before_a_peer_vanished_are_not_lost(
    connect: Clients, teacher: Teacher, way: Way
) -> None:
    """A stream breaks where the peer went away, not before."""
    teacher.busy = True
    async with aclosing(connect().teach(TEACH_REQUEST)) as parts:
        assert [await anext(parts) for _ in RESPONSE] == list(RESPONSE)
        await way.vanish()
        with pytest.raises(PeerUnavailableError):
            await anext(parts)


@every_call
async def test_cancelling_a_call_ends_the_peers_work(
    connect: Clients, teacher: Teacher, call: Callable[[PeerClient], Awaitable[object]]
) -> None:
    """Ctrl-C at the asker frees the teacher."""
    teacher.busy = True
    calling = asyncio.ensure_future(call(connect()))
    await teacher.began.wait()
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    async with patience("the teacher is told"):
        await teacher.ended.wait()


async def test_a_stream_that_is_not_read_to_its_end_ends_the_peers_work(
    connect: Clients, teacher: Teacher
) -> None:
    """An asker that found the response unusable does not leave the teacher streaming."""
    teacher.response = [OFFER] * 1000
    async with aclosing(connect().teach(TEACH_REQUEST)) as parts:
        assert await anext(parts) == OFFER
    async with patience("the teacher is told"):
        await teacher.ended.wait()


@every_call
async def test_closing_a_client_fails_its_running_calls(
    connect: Clients, teacher: Teacher, call: Callable[[PeerClient], Awaitable[object]]
) -> None:
    """Whoever waits on a connection that is given up gets an error, not a cancellation of its task."""
    teacher.busy = True
    client = connect()
    calling = asyncio.ensure_future(call(client))
    await teacher.began.wait()
    await client.close()
    with pytest.raises(PeerUnavailableError, match="closed"):
        await calling


@every_call
async def test_a_closed_client_makes_no_calls(
    connect: Clients, teacher: Teacher, call: Callable[[PeerClient], Awaitable[object]]
) -> None:
    """Closing is final, and may be repeated."""
    client = connect()
    await client.close()
    await client.close()
    with pytest.raises(PeerUnavailableError, match="closed"):
        await call(client)
    assert teacher.callers == []


async def test_a_message_that_is_too_large_is_refused(connect: Clients, teacher: Teacher) -> None:
    """Neither side takes more into memory than the cap on a message."""
    teacher.response = [OFFER, Chunk(0, bytes(MAX_MESSAGE_BYTES))]
    with pytest.raises(PeerRefusedError, match="larger than"):
        await collected(connect())


async def test_a_request_that_is_too_large_is_refused(way: Way, teacher: Teacher) -> None:
    """An asker cannot fill the teacher's memory either."""
    line = way.line()
    with pytest.raises(PeerRefusedError, match="larger than"):
        await line.ask(HELLO.path, bytes(MAX_MESSAGE_BYTES + 1), seconds=5)
    await line.close()
    assert teacher.callers == []


@pytest.mark.parametrize("method", METHODS, ids=lambda method: str(method.name))
@pytest.mark.parametrize("data", [b"\xff", b"\x0a\x05abc"])
async def test_bytes_that_are_no_message_are_refused(
    way: Way, teacher: Teacher, method: Method[Any, Any], data: bytes
) -> None:
    """A malformed request is the asker's fault, is told so, and never reaches the handler."""
    line = way.line()
    asked = (
        anext(line.stream(method.path, data)) if method is TEACH else line.ask(method.path, data, seconds=5)
    )
    with pytest.raises(PeerRefusedError, match=f"{len(data)} bytes are not a {method.request.__name__}"):
        await asked
    await line.close()
    assert teacher.callers == []


async def test_a_request_beyond_the_caps_is_refused(connect: Clients, teacher: Teacher) -> None:
    """The asker learns which of its fields the teacher would not take."""
    with pytest.raises(PeerRefusedError, match="peers: 65 entries"):
        await connect().exchange_peers(ELSEWHERE * 65)
    assert teacher.callers == []


class StrangeLine:
    """Answers everything with the same bytes."""

    address = "strange:1"

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    async def ask(self, path: str, request: bytes, *, seconds: float) -> bytes:
        del path, request, seconds
        return self._answer

    async def stream(self, path: str, request: bytes) -> AsyncGenerator[bytes]:
        del path, request
        yield self._answer

    async def close(self) -> None:
        return


@every_call
async def test_an_answer_that_is_no_message_is_a_protocol_error(
    call: Callable[[PeerClient], Awaitable[object]],
) -> None:
    """A member that sends garbage is named, and nothing else goes wrong."""
    client = PeerClient(PeerId("s" * 52), StrangeLine(b"\xff\xff"))
    with pytest.raises(ProtocolError, match="peer ssssssss at strange:1: 2 bytes are not a "):
        await call(client)


async def test_an_answer_beyond_the_caps_is_a_protocol_error() -> None:
    """What a peer says of itself is checked before anybody believes it."""
    answer = pb.HelloResponse(node=pb.NodeDescription(protocol_version=1, node_name="\x1b[2J"))
    client = PeerClient(PeerId("s" * 52), StrangeLine(answer.SerializeToString()))
    with pytest.raises(ProtocolError, match="peer ssssssss at strange:1: node_name"):
        await client.hello(ASKER_NODE)


async def test_many_calls_share_one_line(connect: Clients, teacher: Teacher) -> None:
    """Answers find their callers."""
    client = connect()
    answers = await asyncio.gather(*(client.hello(ASKER_NODE) for _ in range(20)), collected(client))
    assert answers == [TEACHER_NODE] * 20 + [list(RESPONSE)]
    assert len(teacher.callers) == 21


async def test_an_answer_that_is_not_read_waits_at_its_source(connect: Clients, teacher: Teacher) -> None:
    """Of a large one no more is made than the connection's windows hold, and no other call is delayed."""
    made = 0

    def counted() -> Iterator[TeachPart]:
        nonlocal made
        yield OFFER
        for _ in range(64):
            made += 1
            yield Chunk(0, bytes(MEBIBYTE))

    teacher.response = counted()  # type: ignore[assignment]
    client = connect()
    async with aclosing(client.teach(TEACH_REQUEST)) as parts:
        assert await anext(parts) == OFFER
        for _ in range(20):
            assert await client.probe(PROBE_REQUEST) == REPORT
        assert made <= 16
        assert len([part async for part in parts]) == 64


async def test_one_failed_call_leaves_the_line_usable(connect: Clients, teacher: Teacher) -> None:
    """A refusal is not the end of a connection."""
    client = connect()
    teacher.failure = PeerRefusedError("not today")
    with pytest.raises(PeerError, match="not today"):
        await client.hello(ASKER_NODE)
    teacher.failure = None
    assert await client.hello(ASKER_NODE) == TEACHER_NODE
