"""Domain types <-> protobuf messages, in pairs.

`encode_x` trusts its caller; `decode_x` trusts nobody: whatever a peer filled in is checked
against limits.py, and ProtocolError is the only error that leaves a decoder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from qkt_p2p import limits
from qkt_p2p.errors import ProtocolError
from qkt_p2p.pb import peer_pb2 as pb
from qkt_p2p.types import (
    Chunk,
    ChunkInfo,
    ClassEvidence,
    ClassName,
    Heartbeat,
    NodeDescription,
    PeerAddress,
    ProbeReport,
    ProbeRequest,
    TeachEnd,
    TeachOffer,
    TeachPart,
    TeachRequest,
    TeachWait,
    parse_class_name,
    parse_peer_id,
    parse_query_id,
)
from qkt_p2p.wire import checks

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Beat = TypeVar("Beat", pb.HeartbeatRequest, pb.HeartbeatResponse)

_MAX_UINT32: Final = 2**32 - 1


def encode_description(node: NodeDescription) -> pb.NodeDescription:
    """Encode what a node tells about itself."""
    return pb.NodeDescription(
        protocol_version=node.protocol_version,
        node_name=node.node_name,
        software_version=node.software_version,
        known_classes=node.known_classes,
        media=node.media,
        addresses=node.addresses,
        model_version=node.model_version,
    )


def decode_description(message: pb.NodeDescription) -> NodeDescription:
    """Decode what a peer tells about itself; raises ProtocolError."""
    if message.protocol_version < 1:
        raise ProtocolError("the peer names no protocol version")
    return NodeDescription(
        protocol_version=message.protocol_version,
        node_name=checks.name(message.node_name, "node_name"),
        software_version=checks.name(message.software_version, "software_version"),
        known_classes=decode_classes(message.known_classes, limits.MAX_CLASSES),
        media=_decode_names(message.media, limits.MAX_MEDIA, "media"),
        addresses=checks.addresses(message.addresses),
        model_version=checks.model_version(message.model_version),
    )


def _decode_names(names: Sequence[str], limit: int, what: str) -> tuple[str, ...]:
    return tuple(checks.name(name, what) for name in checks.capped(names, limit, what))


def encode_heartbeat(beat: Heartbeat, kind: type[Beat]) -> Beat:
    """Encode a beat as the message of either direction."""
    state = pb.NODE_STATE_DRAINING if beat.draining else pb.NODE_STATE_SERVING
    return kind(state=state, model_version=beat.model_version, revocations=beat.revocations)


def decode_heartbeat(message: pb.HeartbeatRequest | pb.HeartbeatResponse) -> Heartbeat:
    """Decode a beat of either direction; a state that this version does not know is serving.

    Raises ProtocolError.
    """
    return Heartbeat(
        draining=message.state == pb.NODE_STATE_DRAINING,
        model_version=checks.model_version(message.model_version),
        revocations=message.revocations,
    )


def decode_revocations(
    message: pb.ExchangeRevocationsRequest | pb.ExchangeRevocationsResponse,
) -> bytes:
    """Decode the revocation lists of either direction, PEM, unverified; raises ProtocolError."""
    if len(message.lists) > limits.MAX_REVOCATION_BYTES:
        raise ProtocolError(f"lists: {len(message.lists)} bytes, over {limits.MAX_REVOCATION_BYTES}")
    return message.lists


def encode_peer_addresses(peers: Iterable[PeerAddress]) -> list[pb.PeerAddress]:
    """Encode where peers might be dialed."""
    return [
        pb.PeerAddress(
            peer_id=peer.peer,
            addresses=peer.addresses,
            node_name=peer.name,
            age_milliseconds=min(round(1000 * peer.age), _MAX_UINT32),
        )
        for peer in peers
    ]


def decode_peer_addresses(messages: Sequence[pb.PeerAddress]) -> tuple[PeerAddress, ...]:
    """Decode where peers might be dialed; raises ProtocolError."""
    capped = checks.capped(messages, limits.MAX_PEERS_PER_EXCHANGE, "peers")
    return tuple(
        PeerAddress(
            peer=checks.parsed(parse_peer_id, message.peer_id),
            addresses=checks.addresses(message.addresses),
            name=checks.name(message.node_name, "node_name") if message.node_name else "",
            age=message.age_milliseconds / 1000,
        )
        for message in capped
    )


def encode_probe_request(request: ProbeRequest) -> pb.ProbeRequest:
    """Encode a probe."""
    return pb.ProbeRequest(
        query_id=request.query_id, seed=request.seed, probes=request.probes, classes=request.classes
    )


def decode_probe_request(message: pb.ProbeRequest) -> ProbeRequest:
    """Decode a probe; raises ProtocolError."""
    return ProbeRequest(
        query_id=checks.parsed(parse_query_id, message.query_id),
        seed=message.seed,
        probes=checks.within(message.probes, 1, limits.MAX_PROBES, "probes"),
        classes=decode_classes(message.classes, limits.MAX_CLASSES),
    )


def encode_probe_report(report: ProbeReport) -> pb.ProbeResponse:
    """Encode a teacher's answer to a probe."""
    evidence = [
        pb.ClassEvidence(class_name=item.class_name, evidence=item.evidence, teachable=item.teachable)
        for item in report.evidence
    ]
    return pb.ProbeResponse(
        model_version=report.model_version,
        input_shape=report.input_shape,
        evidence=evidence,
        media=report.media,
    )


def decode_probe_report(message: pb.ProbeResponse) -> ProbeReport:
    """Decode a teacher's answer to a probe; raises ProtocolError."""
    entries = checks.capped(message.evidence, limits.MAX_CLASSES, "evidence")
    evidence = tuple(
        ClassEvidence(
            class_name=checks.parsed(parse_class_name, entry.class_name),
            evidence=checks.fraction(entry.evidence, "evidence"),
            teachable=entry.teachable,
        )
        for entry in entries
    )
    checks.distinct([item.class_name for item in evidence], "evidence")
    return ProbeReport(
        model_version=checks.model_version(message.model_version),
        input_shape=checks.shape(message.input_shape),
        evidence=evidence,
        media=_decode_names(message.media, limits.MAX_MEDIA, "media"),
    )


def encode_teach_request(request: TeachRequest) -> pb.TeachRequest:
    """Encode a wish to be taught."""
    return pb.TeachRequest(
        query_id=request.query_id,
        medium=request.medium,
        seed=request.seed,
        samples_per_class=request.samples_per_class,
        classes=request.classes,
        input_shape=request.input_shape,
        held_digests=request.held,
        stem=request.stem,
        rank=request.rank,
        encodings=request.encodings,
        offer_only=request.offer_only,
    )


def decode_teach_request(message: pb.TeachRequest) -> TeachRequest:
    """Decode a wish to be taught; raises ProtocolError."""
    held = checks.capped(message.held_digests, limits.MAX_CHUNKS, "held_digests")
    return TeachRequest(
        query_id=checks.parsed(parse_query_id, message.query_id),
        medium=checks.name(message.medium, "medium"),
        seed=message.seed,
        samples_per_class=checks.within(
            message.samples_per_class, 1, limits.MAX_SAMPLES_PER_CLASS, "samples_per_class"
        ),
        classes=decode_classes(checks.present(message.classes, "classes"), limits.MAX_CLASSES),
        input_shape=checks.shape(message.input_shape),
        held=tuple(checks.digest(digest) for digest in held),
        stem=_decode_stem(message.stem),
        rank=checks.within(message.rank, 0, limits.MAX_RECIPE_RANK, "rank"),
        encodings=_decode_names(message.encodings, limits.MAX_ENCODINGS, "encodings"),
        offer_only=message.offer_only,
    )


def _decode_stem(stem: bytes) -> bytes:
    checks.within(len(stem), 0, limits.MAX_STEM_BYTES, "stem size")
    return stem


def encode_teach_part(part: TeachPart) -> pb.TeachResponse:
    """Encode one part of a response."""
    match part:
        case TeachOffer():
            chunks = [
                pb.ChunkInfo(
                    digest=chunk.digest, size=chunk.size, samples=chunk.samples, plain_size=chunk.plain_size
                )
                for chunk in part.chunks
            ]
            offer = pb.TeachOffer(
                medium=part.medium,
                model_version=part.model_version,
                classes=part.classes,
                chunks=chunks,
                encoding=part.encoding,
                epsilon=part.epsilon,
                delta=part.delta,
            )
            return pb.TeachResponse(offer=offer)
        case Chunk():
            return pb.TeachResponse(chunk=pb.Chunk(index=part.index, data=part.data))
        case TeachEnd():
            return pb.TeachResponse(end=pb.TeachEnd(chunks_sent=part.chunks_sent))
        case TeachWait():
            return pb.TeachResponse(wait=pb.TeachWait(ahead=part.ahead))


def decode_teach_part(message: pb.TeachResponse) -> TeachPart:
    """Decode one part of a response; raises ProtocolError."""
    match message.WhichOneof("part"):
        case "offer":
            return _decode_offer(message.offer)
        case "chunk":
            checks.within(len(message.chunk.data), 1, limits.MAX_CHUNK_BYTES, "chunk size")
            checks.within(message.chunk.index, 0, limits.MAX_CHUNKS - 1, "chunk index")
            return Chunk(index=message.chunk.index, data=message.chunk.data)
        case "end":
            return TeachEnd(chunks_sent=message.end.chunks_sent)
        case "wait":
            return TeachWait(ahead=message.wait.ahead)
        case _:
            raise ProtocolError("a response holds a part that this version does not know")


def _decode_offer(message: pb.TeachOffer) -> TeachOffer:
    infos = checks.capped(checks.present(message.chunks, "chunks"), limits.MAX_CHUNKS, "chunks")
    chunks = tuple(_decode_chunk_info(info, encoded=bool(message.encoding)) for info in infos)
    checks.within(sum(chunk.size for chunk in chunks), 1, limits.MAX_RESPONSE_BYTES, "response size")
    if any(chunk.plain_size for chunk in chunks):
        inflated = sum(chunk.size + chunk.saved for chunk in chunks)
        checks.within(inflated, 1, limits.MAX_INFLATED_BYTES, "inflated size")
    return TeachOffer(
        medium=checks.name(message.medium, "medium"),
        model_version=checks.model_version(message.model_version),
        classes=decode_classes(checks.present(message.classes, "classes"), limits.MAX_CLASSES),
        chunks=chunks,
        encoding=checks.name(message.encoding, "encoding") if message.encoding else "",
        epsilon=checks.number(message.epsilon, 0.0, limits.MAX_EPSILON, "epsilon"),
        delta=checks.fraction(message.delta, "delta"),
    )


def _decode_chunk_info(info: pb.ChunkInfo, *, encoded: bool) -> ChunkInfo:
    return ChunkInfo(
        digest=checks.digest(info.digest),
        size=checks.within(info.size, 1, limits.MAX_CHUNK_BYTES, "chunk size"),
        samples=checks.within(
            info.samples, 0, limits.MAX_CLASSES * limits.MAX_SAMPLES_PER_CLASS, "chunk samples"
        ),
        plain_size=_plain_size(info, encoded=encoded),
    )


def _plain_size(info: pb.ChunkInfo, *, encoded: bool) -> int:
    """Return the size before encoding, which makes a chunk smaller; 0 where it is not encoded."""
    if info.plain_size == 0:
        return 0
    most = limits.MAX_CHUNK_BYTES if encoded else 0
    return checks.within(info.plain_size, info.size + 1, most, "plain chunk size")


def decode_classes(names: Sequence[str], limit: int) -> tuple[ClassName, ...]:
    """Decode at most `limit` different class names; raises ProtocolError."""
    classes = tuple(checks.parsed(parse_class_name, name) for name in checks.capped(names, limit, "classes"))
    checks.distinct(classes, "classes")
    return classes
