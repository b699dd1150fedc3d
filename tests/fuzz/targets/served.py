"""A served node: sequences of messages that a hostile member makes up, and strangers who want to join."""

from __future__ import annotations

from contextlib import aclosing, suppress
from functools import cache

from qkt_p2p.errors import NotTrustedError, ProtocolError, QktError
from qkt_p2p.identity.certificates import create_request, request_der
from qkt_p2p.identity.enrollment import prove
from qkt_p2p.identity.registrar import Registrar
from qkt_p2p.pb import enrollment_pb2
from qkt_p2p.pb import peer_pb2 as pb
from qkt_p2p.transport.methods import parse_message
from qkt_p2p.types import (
    Heartbeat,
)
from qkt_p2p.wire import messages
from tests.fuzz.authority import MEMBER_KEY, authority
from tests.fuzz.mutators import frames, joined_frames, protobuf, split_frames
from tests.fuzz.served import CALLERS, METHODS, SecureNode, ServedNode
from tests.fuzz.target import Target, scratch
from tests.transport.members import ASKER_NODE, ELSEWHERE, PROBE
from tests.transport.members import TEACH as REQUEST

_REQUESTS = [
    pb.HelloRequest(node=messages.encode_description(ASKER_NODE)),
    messages.encode_heartbeat(Heartbeat(False, 1, 1), pb.HeartbeatRequest),
    pb.ExchangePeersRequest(peers=messages.encode_peer_addresses(ELSEWHERE)),
    pb.ExchangeRevocationsRequest(lists=b"lists"),
    messages.encode_probe_request(PROBE),
    messages.encode_teach_request(REQUEST),
]
_RAW = len(METHODS)
"""Number of a frame that is no call: bytes where HTTP/2 is spoken."""

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_HEADERS = b"\x00\x00\x04\x01\x04\x00\x00\x00\x01\x82\x86\x84\x87"

_node, _secure_node = cache(ServedNode), cache(SecureNode)


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
    "enrollment": Target(
        _enrollment, (ProtocolError, NotTrustedError), _wishes, protobuf(enrollment_pb2.EnrollRequest)
    ),
}
