"""Calls to an attached peer and their answers <-> messages, in pairs; `decode_x` trusts nobody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from qkt_p2p.errors import ProtocolError
from qkt_p2p.pb import peer_pb2 as pb
from qkt_p2p.wire import checks

_LAST_STATUS: Final = 16
"""Highest status code of gRPC."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call: its number among the peer's, from 1, the method's name, and the request message."""

    number: int
    method: str
    request: bytes


@dataclass(frozen=True, slots=True)
class CallEnd:
    """How an answer ended: a status code of gRPC, 0 where all was sent, and why for people to read.

    After `retry_after_milliseconds` the same call may succeed; 0 says nothing of that.
    """

    status: int = 0
    detail: str = ""
    retry_after_milliseconds: int = 0


AnswerPart = int | bytes | CallEnd
"""The number of the call first, then messages, then the end."""


def encode_call(call: Call | None) -> pb.AttachResponse:
    """Encode a call; None is the greeting that comes before all calls."""
    if call is None:
        return pb.AttachResponse()
    return pb.AttachResponse(call_id=call.number, method=call.method, request=call.request)


def decode_call(message: pb.AttachResponse) -> Call | None:
    """Decode a call, or None from the greeting; raises ProtocolError."""
    if message.call_id == 0:
        return None
    return Call(message.call_id, checks.name(message.method, "method"), message.request)


def encode_answer_part(part: AnswerPart) -> pb.AnswerRequest:
    """Encode one part of an answer."""
    match part:
        case bytes():
            return pb.AnswerRequest(response=part)
        case CallEnd():
            end = pb.AnswerEnd(status=part.status, detail=part.detail)
            end.retry_after_milliseconds = part.retry_after_milliseconds
            return pb.AnswerRequest(end=end)
        case number:
            return pb.AnswerRequest(call_id=number)


def decode_answer_part(message: pb.AnswerRequest) -> AnswerPart:
    """Decode one part of an answer; raises ProtocolError. The detail may hold anything."""
    match message.WhichOneof("part"):
        case "call_id":
            return message.call_id
        case "response":
            return message.response
        case "end":
            status = checks.within(message.end.status, 0, _LAST_STATUS, "status")
            return CallEnd(status, message.end.detail, message.end.retry_after_milliseconds)
        case _:
            raise ProtocolError("a part of an answer holds nothing")
