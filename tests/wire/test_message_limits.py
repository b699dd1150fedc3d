"""Every cap on what a peer may fill: the cap itself is taken, one more is refused by name."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message

from qkt_p2p import limits
from qkt_p2p.errors import ProtocolError
from qkt_p2p.pb import peer_pb2 as pb
from qkt_p2p.types import (
    Chunk,
    ChunkInfo,
    ClassEvidence,
    ClassName,
    NodeDescription,
    PeerAddress,
    PeerId,
    ProbeReport,
    ProbeRequest,
    QueryId,
    TeachOffer,
    TeachRequest,
)
from qkt_p2p.wire import checks, messages

WIDE = "\N{GRINNING FACE}"
"""Four bytes in UTF-8, so that the longest names are the longest messages."""


def names(count: int) -> tuple[ClassName, ...]:
    return tuple(ClassName(f"{number:04}".ljust(limits.MAX_NAME_CHARACTERS, WIDE)) for number in range(count))


def addresses(count: int) -> tuple[str, ...]:
    return tuple(f"{number}".ljust(limits.MAX_ADDRESS_CHARACTERS, WIDE) for number in range(count))


NODE = NodeDescription(1, "node", "1", (), (), (), 0)
PROBE = ProbeRequest(QueryId("0" * 16), 0, 1, ())
REPORT = ProbeReport(0, (1, 1, 1), ())
TEACH = TeachRequest(QueryId("0" * 16), "moments", 0, 1, names(1), (1, 1, 1))
INFO = ChunkInfo(bytes(32), 1, 1)
OFFER = TeachOffer("moments", 0, names(1), (INFO,))
PEER = PeerId("a" * 52)


def node(**changes: Any) -> Message:
    return messages.encode_description(replace(NODE, **changes))


def exchange(count: int) -> Message:
    peers = [PeerAddress(PEER, addresses(limits.MAX_ADDRESSES))] * count
    return pb.ExchangePeersRequest(peers=messages.encode_peer_addresses(peers))


def probe(**changes: Any) -> Message:
    return messages.encode_probe_request(replace(PROBE, **changes))


def report(**changes: Any) -> Message:
    return messages.encode_probe_report(replace(REPORT, **changes))


def teach(**changes: Any) -> Message:
    return messages.encode_teach_request(replace(TEACH, **changes))


def offer(**changes: Any) -> Message:
    return messages.encode_teach_part(replace(OFFER, **changes))


def evidence(count: int) -> tuple[ClassEvidence, ...]:
    return tuple(ClassEvidence(name, 1.0, True) for name in names(count))


def chunk(index: int, size: int) -> Message:
    return messages.encode_teach_part(Chunk(index, bytes(size)))


def total(size: int) -> Message:
    whole, rest = divmod(size, limits.MAX_CHUNK_BYTES)
    sizes = [limits.MAX_CHUNK_BYTES] * whole + [rest] * bool(rest)
    return offer(chunks=tuple(replace(INFO, size=each) for each in sizes))


def inflated_total(size: int) -> Message:
    whole, rest = divmod(size, limits.MAX_CHUNK_BYTES)
    sizes = [limits.MAX_CHUNK_BYTES] * whole + [rest] * bool(rest)
    infos = [replace(INFO, plain_size=each if each > 1 else 0) for each in sizes]
    return offer(chunks=tuple(infos), encoding="zstd")


def encoded(*plain_sizes: int) -> Message:
    infos = tuple(replace(INFO, plain_size=size) for size in plain_sizes)
    return offer(chunks=infos, encoding="zstd")


def decode(message: Message) -> Any:
    decoders: dict[type[Message], Callable[[Any], Any]] = {
        pb.NodeDescription: messages.decode_description,
        pb.HeartbeatRequest: messages.decode_heartbeat,
        pb.HeartbeatResponse: messages.decode_heartbeat,
        pb.ExchangePeersRequest: lambda sent: messages.decode_peer_addresses(sent.peers),
        pb.ExchangeRevocationsRequest: messages.decode_revocations,
        pb.ExchangeRevocationsResponse: messages.decode_revocations,
        pb.ProbeRequest: messages.decode_probe_request,
        pb.ProbeResponse: messages.decode_probe_report,
        pb.TeachRequest: messages.decode_teach_request,
        pb.TeachResponse: messages.decode_teach_part,
    }
    return decoders[type(message)](message)


@dataclass(frozen=True)
class Cap:
    """A message at a cap of limits.py (`limit`), and how its refusal begins beyond it."""

    name: str
    what: str
    make: Callable[[int], Message]

    @property
    def limit(self) -> int:
        return int(getattr(limits, self.name))


CAPS = [
    Cap("MAX_EPSILON", "epsilon", lambda epsilon: offer(epsilon=epsilon)),
    Cap("MAX_NAME_CHARACTERS", "node_name", lambda size: node(node_name=WIDE * size)),
    Cap("MAX_NAME_CHARACTERS", "software_version", lambda size: node(software_version=WIDE * size)),
    Cap("MAX_NAME_CHARACTERS", "media", lambda size: node(media=(WIDE * size,))),
    Cap("MAX_NAME_CHARACTERS", ".*class name", lambda size: node(known_classes=(WIDE * size,))),
    Cap("MAX_NAME_CHARACTERS", "medium", lambda size: teach(medium=WIDE * size)),
    Cap("MAX_NAME_CHARACTERS", "medium", lambda size: offer(medium=WIDE * size)),
    Cap("MAX_CLASSES", "classes", lambda count: node(known_classes=names(count))),
    Cap("MAX_CLASSES", "classes", lambda count: probe(classes=names(count))),
    Cap("MAX_CLASSES", "classes", lambda count: teach(classes=names(count))),
    Cap("MAX_CLASSES", "classes", lambda count: offer(classes=names(count))),
    Cap("MAX_CLASSES", "evidence", lambda count: report(evidence=evidence(count))),
    Cap("MAX_MODEL_VERSION", "model_version", lambda version: node(model_version=version)),
    Cap("MAX_MODEL_VERSION", "model_version", lambda version: report(model_version=version)),
    Cap("MAX_MODEL_VERSION", "model_version", lambda version: offer(model_version=version)),
    Cap("MAX_MODEL_VERSION", "model_version", lambda version: pb.HeartbeatRequest(model_version=version)),
    Cap("MAX_MODEL_VERSION", "model_version", lambda version: pb.HeartbeatResponse(model_version=version)),
    Cap("MAX_MEDIA", "media", lambda count: node(media=names(count))),
    Cap("MAX_MEDIA", "media", lambda count: report(media=names(count))),
    Cap("MAX_NAME_CHARACTERS", "media", lambda size: report(media=(WIDE * size,))),
    Cap("MAX_ADDRESSES", "addresses", lambda count: node(addresses=addresses(count))),
    Cap("MAX_ADDRESS_CHARACTERS", "addresses", lambda size: node(addresses=(WIDE * size,))),
    Cap("MAX_PEERS_PER_EXCHANGE", "peers", exchange),
    Cap("MAX_REVOCATION_BYTES", "lists", lambda size: pb.ExchangeRevocationsRequest(lists=bytes(size))),
    Cap("MAX_REVOCATION_BYTES", "lists", lambda size: pb.ExchangeRevocationsResponse(lists=bytes(size))),
    Cap("MAX_PROBES", "probes", lambda count: probe(probes=count)),
    Cap("MAX_SAMPLES_PER_CLASS", "samples_per_class", lambda count: teach(samples_per_class=count)),
    Cap("MAX_RANK", "input_shape", lambda rank: pb.ProbeResponse(input_shape=[1] * rank)),
    Cap("MAX_SIDE", "input_shape", lambda side: report(input_shape=(1, side, 1))),
    Cap("MAX_SIDE", "input_shape", lambda side: teach(input_shape=(1, 1, side))),
    Cap("MAX_STEM_BYTES", "stem size", lambda size: teach(stem=bytes(size))),
    Cap("MAX_NAME_CHARACTERS", "encodings", lambda size: teach(encodings=(WIDE * size,))),
    Cap("MAX_NAME_CHARACTERS", "encoding", lambda size: offer(encoding=WIDE * size)),
    Cap("MAX_ENCODINGS", "encodings", lambda count: teach(encodings=names(count))),
    Cap("MAX_RECIPE_RANK", "rank", lambda rank: teach(rank=rank)),
    Cap("MAX_CHUNKS", "held_digests", lambda count: teach(held=(bytes(32),) * count)),
    Cap("MAX_CHUNKS", "chunks", lambda count: offer(chunks=(INFO,) * count)),
    Cap("MAX_CHUNKS", "chunk index", lambda count: chunk(count - 1, 1)),
    Cap("MAX_CHUNK_BYTES", "chunk size", lambda size: chunk(0, size)),
    Cap("MAX_CHUNK_BYTES", "chunk size", lambda size: offer(chunks=(replace(INFO, size=size),))),
    Cap("MAX_CHUNK_BYTES", "plain chunk size", encoded),
    Cap("MAX_RESPONSE_BYTES", "response size", total),
    Cap("MAX_INFLATED_BYTES", "inflated size", inflated_total),
]


@pytest.mark.parametrize("cap", CAPS, ids=lambda cap: f"{cap.name} {cap.what}")
def test_a_cap_is_reached_and_not_passed(cap: Cap) -> None:
    """What is allowed arrives, in one message; one more is refused and the field named."""
    message = cap.make(cap.limit)
    decode(message)
    assert message.ByteSize() < limits.MAX_MESSAGE_BYTES
    with pytest.raises(ProtocolError, match=f"^{cap.what}"):
        decode(cap.make(cap.limit + 1))


def test_the_elements_of_an_input_are_capped() -> None:
    """Three sides that are each allowed can still be too much together."""
    assert decode(report(input_shape=(3, 512, 512))).input_shape == (3, 512, 512)
    with pytest.raises(ProtocolError, match="elements"):
        decode(report(input_shape=(3, 512, 513)))


def test_the_samples_of_a_chunk_are_capped() -> None:
    """An offer cannot promise more than any request could ask for."""
    most = limits.MAX_CLASSES * limits.MAX_SAMPLES_PER_CLASS
    assert decode(offer(chunks=(replace(INFO, samples=most),))).chunks[0].samples == most
    with pytest.raises(ProtocolError, match="chunk samples"):
        decode(offer(chunks=(replace(INFO, samples=most + 1),)))


def test_a_chunk_may_hold_no_sample() -> None:
    """A file that is cut counts all its samples in its first piece."""
    assert decode(offer(chunks=(replace(INFO, samples=0),))).chunks[0].samples == 0


def test_the_largest_request_is_one_message() -> None:
    """A stem, all classes and all held digests at once still fit, for attached peers too."""
    largest = teach(
        stem=bytes(limits.MAX_STEM_BYTES),
        rank=limits.MAX_RECIPE_RANK,
        classes=names(limits.MAX_CLASSES),
        held=(bytes(32),) * limits.MAX_CHUNKS,
        medium=WIDE * limits.MAX_NAME_CHARACTERS,
        samples_per_class=limits.MAX_SAMPLES_PER_CLASS,
    )
    assert largest.ByteSize() < limits.MAX_ATTACHED_BYTES
    assert decode(largest).rank == limits.MAX_RECIPE_RANK


def test_every_cap_that_decoders_use_is_tested() -> None:
    """A cap that is new in the decoders needs its boundary here."""
    used = {
        found.attr
        for module in (messages, checks)
        for found in ast.walk(ast.parse(Path(str(module.__file__)).read_text()))
        if isinstance(found, ast.Attribute)
        and isinstance(found.value, ast.Name)
        and found.value.id == "limits"
    }
    assert used == {cap.name for cap in CAPS} | {"MAX_INPUT_ELEMENTS"}


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (node(protocol_version=0), "no protocol version"),
        (node(node_name=""), "node_name"),
        (node(node_name="a\nb"), "node_name"),
        (node(node_name="\x1b[2J"), "node_name"),
        (node(addresses=("",)), "addresses"),
        (node(addresses=("a\x00:1",)), "addresses"),
        (node(known_classes=("a", "a")), "twice"),
        (node(known_classes=("a,b",)), "class name"),
        (node(known_classes=(" a",)), "class name"),
        (node(known_classes=("e\N{COMBINING ACUTE ACCENT}",)), "class name"),
        (pb.ExchangePeersRequest(peers=[pb.PeerAddress(peer_id="a" * 51)]), "peer id"),
        (pb.ExchangePeersRequest(peers=[pb.PeerAddress(peer_id="A" * 52)]), "peer id"),
        (probe(query_id="0" * 15), "query id"),
        (probe(query_id="G" * 16), "query id"),
        (probe(probes=0), "probes"),
        (report(evidence=evidence(1) * 2), "twice"),
        (report(evidence=(ClassEvidence(ClassName("a"), float("nan"), True),)), "not in"),
        (report(evidence=(ClassEvidence(ClassName("a"), 1.001, True),)), "not in"),
        (report(evidence=(ClassEvidence(ClassName("a"), -0.001, True),)), "not in"),
        (report(input_shape=(0, 1, 1)), "input_shape"),
        (report(input_shape=(1, 1)), "input_shape"),
        (teach(classes=()), "classes: there is none"),
        (teach(samples_per_class=0), "samples_per_class"),
        (teach(held=(bytes(31),)), "31 bytes"),
        (offer(classes=()), "classes: there is none"),
        (offer(chunks=()), "chunks: there is none"),
        (offer(chunks=(replace(INFO, digest=bytes(33)),)), "33 bytes"),
        (offer(chunks=(replace(INFO, size=0),)), "chunk size"),
        (offer(chunks=(replace(INFO, plain_size=2),)), "plain chunk size"),
        (encoded(1), "plain chunk size: 1 is not in 2"),
        (encoded(2, 0, 1), "plain chunk size"),
        (offer(encoding="a\nb"), "encoding"),
        (teach(encodings=("",)), "encodings"),
        (report(media=("a\nb",)), "media"),
        (report(media=("",)), "media"),
        (chunk(0, 0), "chunk size"),
        (pb.TeachResponse(), "does not know"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(message: Message, reason: str) -> None:
    """Empty, repeated, unprintable, misspelt and impossible entries are each named."""
    with pytest.raises(ProtocolError, match=reason):
        decode(message)


def test_a_refusal_quotes_little() -> None:
    """A long name does not fill the owner's log."""
    with pytest.raises(ProtocolError) as caught:
        decode(node(node_name="x" * 100_000))
    assert len(caught.value.message) < 200
