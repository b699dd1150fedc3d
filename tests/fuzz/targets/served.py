"""A served node, and a node that is answered: sequences of messages that a hostile member makes up."""

from __future__ import annotations

import asyncio
import atexit
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager, suppress
from functools import cache

from qkt_p2p.errors import PEER_FAILURES, NotTrustedError, ProtocolError, QktError
from qkt_p2p.identity.certificates import create_request, request_der
from qkt_p2p.identity.enrollment import prove
from qkt_p2p.identity.registrar import Registrar
from qkt_p2p.pb import enrollment_pb2
from qkt_p2p.pb import peer_pb2 as pb
from qkt_p2p.transport.client import Line, PeerClient
from qkt_p2p.transport.methods import ATTACH, TEACH, parse_message
from qkt_p2p.transport.reverse import Attachments
from qkt_p2p.types import Heartbeat, PeerId
from qkt_p2p.wire import messages
from qkt_p2p.wire.calls import AnswerPart, CallEnd, encode_answer_part
from tests.fuzz.authority import MEMBER_KEY, authority
from tests.fuzz.mutators import frames, joined_frames, protobuf, split_frames
from tests.fuzz.served import CALLERS, METHODS, SecureNode, ServedNode
from tests.fuzz.target import Target, scratch
from tests.transport.members import ASKER_NODE, ELSEWHERE, PROBE, REPORT, RESPONSE, TEACHER_NODE
from tests.transport.members import TEACH as REQUEST

_REQUESTS = [
    pb.HelloRequest(node=messages.encode_description(ASKER_NODE)),
    messages.encode_heartbeat(Heartbeat(False, 1, 1), pb.HeartbeatRequest),
    pb.ExchangePeersRequest(peers=messages.encode_peer_addresses(ELSEWHERE)),
    pb.ExchangeRevocationsRequest(lists=b"lists"),
    messages.encode_probe_request(PROBE),
    messages.encode_teach_request(REQUEST),
]
_ANSWERS = [
    pb.HelloResponse(node=messages.encode_description(TEACHER_NODE)),
    messages.encode_heartbeat(Heartbeat(False, 1, 1), pb.HeartbeatResponse),
    pb.ExchangePeersResponse(peers=messages.encode_peer_addresses(ELSEWHERE)),
    pb.ExchangeRevocationsResponse(lists=b"lists"),
    messages.encode_probe_report(REPORT),
    *(messages.encode_teach_part(part) for part in RESPONSE),
]
_RAW = len(METHODS)
"""Number of a frame that is no call: bytes where HTTP/2 is spoken."""

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_HEADERS = b"\x00\x00\x04\x01\x04\x00\x00\x00\x01\x82\x86\x84\x87"

_node, _secure_node = cache(ServedNode), cache(SecureNode)
_LOOP = asyncio.new_event_loop()
atexit.register(_LOOP.close)


def _sound_requests() -> list[bytes]:
    every = [(number, message.SerializeToString()) for number, message in enumerate(_REQUESTS)]
    return [joined_frames(every), *(joined_frames([every[0], each]) for each in every[1:])]


def _handler(data: bytes) -> None:
    """Give a node's handler requests of three members, each under the name of some call."""
    node = _node()

    async def serve() -> None:
        for at, (number, request) in enumerate(split_frames(data, len(METHODS))):
            caller, name = CALLERS[at % len(CALLERS)], METHODS[number].name
            with suppress(QktError):
                if name in node.answers.unary:
                    await node.answers.unary[name](caller, request)
                else:
                    async with aclosing(node.answers.streams[name](caller, request)) as parts:
                        async for _ in parts:
                            pass

    node.run(serve())


def _connection(data: bytes) -> None:
    """Do the same as a member over mutual TLS, and speak HTTP/2 badly."""
    node = _secure_node()

    async def call() -> None:
        for number, request in split_frames(data, len(METHODS) + 1)[:8]:
            if number == _RAW:
                await node.speak(request)
            else:
                await node.call(number, request)

    node.run(call())


def _sound_connections() -> list[bytes]:
    raw = [b"", _PREFACE, _PREFACE + _SETTINGS, _PREFACE + _SETTINGS + _HEADERS, b"GET / HTTP/1.1\r\n\r\n"]
    return [*_sound_requests(), *(joined_frames([(_RAW, each)]) for each in raw)]


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


@cache
def _registrar() -> Registrar:
    return Registrar(authority(), scratch())


def _enrollment(data: bytes) -> None:
    """Take a stranger's wish to join; without an invitation nobody gets in."""
    asked = parse_message(enrollment_pb2.EnrollRequest, data)
    _registrar().enroll(asked.invitation_id, asked.proof, asked.certificate_request)
    raise AssertionError("whoever has no invitation was let in")


def _wishes() -> list[bytes]:
    request = request_der(create_request(MEMBER_KEY))
    wish = enrollment_pb2.EnrollRequest(
        invitation_id="00" * 16, proof=prove(bytes(32), request), certificate_request=request
    )
    return [wish.SerializeToString()]


_KINDS = [method.request for method in METHODS]

TARGETS = {
    "handler": Target(_handler, (), _sound_requests, frames(_KINDS)),
    "connection": Target(
        _connection, (), _sound_connections, frames([*_KINDS, None]), (_PREFACE, _SETTINGS, _HEADERS)
    ),
    "client": Target(_client, (), _sound_answers, frames([method.answer for method in METHODS])),
    "attached": Target(_attached, (), _sound_uploads, frames([pb.AnswerRequest])),
    "enrollment": Target(
        _enrollment, (ProtocolError, NotTrustedError), _wishes, protobuf(enrollment_pb2.EnrollRequest)
    ),
}
