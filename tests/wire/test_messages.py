"""Domain types as messages: there and back, from newer peers, and from peers that make things up."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.message import DecodeError, Message
from hypothesis import given
from hypothesis import strategies as st

from qkt_p2p.errors import ProtocolError
from qkt_p2p.pb import peer_pb2 as pb
from qkt_p2p.transport.methods import SERVICE
from qkt_p2p.wire import calls, messages
from tests.wire import strategies
from tests.wire.pairs import PAIRS, Pair

UNKNOWN_FIELD = b"\xc2\x3e\x03new"
"""Field 1000, three bytes long."""

every_pair = pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())


def decoded(pair: Pair, data: bytes) -> Any:
    """Return what a node makes of bytes; None where they are a protocol error, or no message at all."""
    try:
        return pair.decode(pair.message.FromString(data))
    except (ProtocolError, DecodeError):
        return None


def test_every_message_between_peers_has_a_pair() -> None:
    """A message that is added to the protocol needs a codec, and its properties here."""
    used = {kind.name for method in SERVICE.methods for kind in (method.input_type, method.output_type)}
    tested = {pair.message.__name__ for pair in PAIRS.values()} | {"AttachRequest", "AnswerResponse"}  # empty
    assert used - tested == {"HelloRequest", "HelloResponse", "ExchangePeersResponse"}  # wrappers


@every_pair
@given(st.data())
def test_values_survive_the_way_there_and_back(pair: Pair, choice: st.DataObject) -> None:
    """Whatever a node may say arrives as it was said."""
    value = choice.draw(pair.values)
    assert decoded(pair, pair.encode(value).SerializeToString()) == value


@every_pair
@given(st.data())
def test_fields_of_newer_versions_are_ignored(pair: Pair, choice: st.DataObject) -> None:
    """A field that this version does not know changes nothing."""
    value = choice.draw(pair.values)
    assert decoded(pair, pair.encode(value).SerializeToString() + UNKNOWN_FIELD) == value


@every_pair
@given(st.data())
def test_mutated_messages_decode_or_are_a_protocol_error(pair: Pair, choice: st.DataObject) -> None:
    """A damaged message is either sound, and then goes there and back, or refused as such."""
    data = bytearray(pair.encode(choice.draw(pair.values)).SerializeToString())
    for _ in range(choice.draw(st.integers(1, 6))):
        if data:
            data[choice.draw(st.integers(0, len(data) - 1))] = choice.draw(st.integers(0, 255))
    cut = choice.draw(st.integers(0, min(3, len(data))))
    value = decoded(pair, bytes(data[: len(data) - cut]))
    if value is not None:
        assert decoded(pair, pair.encode(value).SerializeToString()) == value


@every_pair
@given(st.binary(max_size=200))
def test_made_up_bytes_decode_or_are_a_protocol_error(pair: Pair, data: bytes) -> None:
    """No bytes that a stranger makes up raise anything else."""
    value = decoded(pair, data)
    if value is not None:
        assert decoded(pair, pair.encode(value).SerializeToString()) == value


numbers = st.integers(0, 2**32 - 1) | st.integers(0, 20)
texts = st.text(max_size=80) | strategies.printable
blobs = st.binary(max_size=40) | strategies.digests


@st.composite
def filled(draw: st.DrawFn, kind: type[Message]) -> Message:
    """Return a well-formed message whose fields hold anything that their types allow."""
    message = kind()
    for field in kind.DESCRIPTOR.fields:
        repeated = field.is_repeated
        for _ in range(draw(st.integers(0, 3 if repeated else 1))):
            value = _value(draw, field)
            if isinstance(value, Message):
                target = getattr(message, field.name)
                (target.add() if repeated else target).CopyFrom(value)
            elif repeated:
                getattr(message, field.name).append(value)
            else:
                setattr(message, field.name, value)
    return message


def _value(draw: st.DrawFn, field: Any) -> Any:
    if field.message_type is not None:
        return draw(filled(getattr(pb, field.message_type.name)))
    by_type: dict[int, st.SearchStrategy[Any]] = {
        field.TYPE_STRING: texts,
        field.TYPE_BYTES: blobs,
        field.TYPE_FLOAT: st.floats(width=32),
        field.TYPE_BOOL: st.booleans(),
        field.TYPE_ENUM: st.integers(0, 5),
    }
    return draw(by_type.get(field.type, numbers))


@every_pair
@given(st.data())
def test_made_up_fields_decode_or_are_a_protocol_error(pair: Pair, choice: st.DataObject) -> None:
    """A message of the right type with absurd contents is sound or refused, never anything else."""
    value = decoded(pair, choice.draw(filled(pair.message)).SerializeToString())
    if value is not None:
        assert decoded(pair, pair.encode(value).SerializeToString()) == value


@pytest.mark.parametrize("state", [pb.NODE_STATE_UNSPECIFIED, 7])
def test_an_unknown_state_is_serving(state: pb.NodeState.ValueType) -> None:
    """A newer peer's state does not make it look as if it drained."""
    beat = messages.decode_heartbeat(pb.HeartbeatRequest(state=state, model_version=3))
    assert (beat.draining, beat.model_version) == (False, 3)


def test_a_part_of_a_newer_version_is_a_protocol_error() -> None:
    """A response cannot be understood without one of its parts."""
    with pytest.raises(ProtocolError, match="does not know"):
        messages.decode_teach_part(pb.TeachResponse.FromString(UNKNOWN_FIELD))


def test_a_greeting_holds_no_call() -> None:
    """The first message to an attached peer says only that it is attached."""
    assert (
        calls.decode_call(pb.AttachResponse.FromString(calls.encode_call(None).SerializeToString())) is None
    )


def test_an_answer_cannot_end_in_a_status_that_there_is_none() -> None:
    """Status codes go from 0 to 16."""
    with pytest.raises(ProtocolError, match=r"status: 17 is not in 0\.\.16"):
        calls.decode_answer_part(pb.AnswerRequest(end=pb.AnswerEnd(status=17)))
