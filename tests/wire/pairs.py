"""The codecs of every message between peers, with values for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message
from hypothesis import strategies as st

from qkt_p2p.pb import peer_pb2 as pb
from qkt_p2p.wire import calls, messages
from tests.wire import strategies


@dataclass(frozen=True)
class Pair:
    """One codec: what it encodes, as which message, and how both ways go."""

    message: type[Message]
    values: st.SearchStrategy[Any]
    encode: Callable[[Any], Message]
    decode: Callable[[Any], Any]


PAIRS = {
    "description": Pair(
        pb.NodeDescription,
        strategies.descriptions,
        messages.encode_description,
        messages.decode_description,
    ),
    "heartbeat request": Pair(
        pb.HeartbeatRequest,
        strategies.heartbeats,
        lambda beat: messages.encode_heartbeat(beat, pb.HeartbeatRequest),
        messages.decode_heartbeat,
    ),
    "heartbeat response": Pair(
        pb.HeartbeatResponse,
        strategies.heartbeats,
        lambda beat: messages.encode_heartbeat(beat, pb.HeartbeatResponse),
        messages.decode_heartbeat,
    ),
    "peer addresses": Pair(
        pb.ExchangePeersRequest,
        strategies.exchanges,
        lambda peers: pb.ExchangePeersRequest(peers=messages.encode_peer_addresses(peers)),
        lambda message: messages.decode_peer_addresses(message.peers),
    ),
    "revocations request": Pair(
        pb.ExchangeRevocationsRequest,
        strategies.lists,
        lambda lists: pb.ExchangeRevocationsRequest(lists=lists),
        messages.decode_revocations,
    ),
    "revocations response": Pair(
        pb.ExchangeRevocationsResponse,
        strategies.lists,
        lambda lists: pb.ExchangeRevocationsResponse(lists=lists),
        messages.decode_revocations,
    ),
    "probe request": Pair(
        pb.ProbeRequest,
        strategies.probe_requests,
        messages.encode_probe_request,
        messages.decode_probe_request,
    ),
    "probe report": Pair(
        pb.ProbeResponse,
        strategies.probe_reports,
        messages.encode_probe_report,
        messages.decode_probe_report,
    ),
    "teach request": Pair(
        pb.TeachRequest,
        strategies.teach_requests,
        messages.encode_teach_request,
        messages.decode_teach_request,
    ),
    "teach part": Pair(
        pb.TeachResponse,
        strategies.parts,
        messages.encode_teach_part,
        messages.decode_teach_part,
    ),
    "call": Pair(pb.AttachResponse, strategies.calls, calls.encode_call, calls.decode_call),
    "answer part": Pair(
        pb.AnswerRequest,
        strategies.answer_parts,
        calls.encode_answer_part,
        calls.decode_answer_part,
    ),
}
