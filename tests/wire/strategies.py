"""Domain values as peers may send them, within every cap of limits.py."""

from __future__ import annotations

import string
import unicodedata

from hypothesis import strategies as st

from qkt_p2p import limits
from qkt_p2p.types import (
    PEER_ID_CHARACTERS,
    Chunk,
    ChunkInfo,
    ClassEvidence,
    ClassName,
    Heartbeat,
    NodeDescription,
    PeerAddress,
    PeerId,
    ProbeReport,
    ProbeRequest,
    QueryId,
    TeachEnd,
    TeachOffer,
    TeachRequest,
    TeachWait,
)
from qkt_p2p.wire.calls import Call, CallEnd

FEW = 4
"""Longest list that is drawn; test_message_limits.py has the longest allowed."""

printable = st.text(
    st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=limits.MAX_NAME_CHARACTERS
)
versions = st.integers(0, limits.MAX_MODEL_VERSION)
seeds = st.integers(0, 2**64 - 1)
digests = st.binary(min_size=32, max_size=32)
fractions = st.floats(0, 1, width=32)
query_ids = st.text("0123456789abcdef", min_size=16, max_size=16).map(QueryId)
peer_ids = st.text(
    string.ascii_lowercase + "234567", min_size=PEER_ID_CHARACTERS, max_size=PEER_ID_CHARACTERS
).map(PeerId)
addresses = st.lists(
    st.text(string.ascii_letters + string.digits + ".:[]-", min_size=1, max_size=60), max_size=FEW
).map(tuple)
class_names = (
    printable.map(lambda text: unicodedata.normalize("NFC", text).replace(",", "-"))
    .filter(lambda text: 0 < len(text) <= limits.MAX_NAME_CHARACTERS and text.isprintable())
    .map(ClassName)
)


def classes(least: int = 0) -> st.SearchStrategy[tuple[ClassName, ...]]:
    return st.lists(class_names, min_size=least, max_size=FEW, unique=True).map(tuple)


shapes = st.tuples(st.integers(1, 3), st.integers(1, 512), st.integers(1, 512))

descriptions = st.builds(
    NodeDescription,
    protocol_version=st.integers(1, 2**32 - 1),
    node_name=printable,
    software_version=printable,
    known_classes=classes(),
    media=st.lists(printable, max_size=FEW).map(tuple),
    addresses=addresses,
    model_version=versions,
)
heartbeats = st.builds(
    Heartbeat, draining=st.booleans(), model_version=versions, revocations=st.integers(0, 2**64 - 1)
)
exchanges = st.lists(st.builds(PeerAddress, peer_ids, addresses), max_size=FEW).map(tuple)
lists = st.binary(max_size=100)
probe_requests = st.builds(
    ProbeRequest,
    query_id=query_ids,
    seed=seeds,
    probes=st.integers(1, limits.MAX_PROBES),
    classes=classes(),
)
probe_reports = st.builds(
    ProbeReport,
    model_version=versions,
    input_shape=shapes,
    evidence=st.lists(
        st.builds(ClassEvidence, class_names, fractions, st.booleans()),
        max_size=FEW,
        unique_by=lambda entry: entry.class_name,
    ).map(tuple),
    media=st.lists(printable, max_size=FEW).map(tuple),
)
teach_requests = st.builds(
    TeachRequest,
    query_id=query_ids,
    medium=printable,
    seed=seeds,
    samples_per_class=st.integers(1, limits.MAX_SAMPLES_PER_CLASS),
    classes=classes(least=1),
    input_shape=shapes,
    held=st.lists(digests, max_size=FEW).map(tuple),
    stem=st.binary(max_size=64),
    rank=st.integers(0, limits.MAX_RECIPE_RANK),
    encodings=st.lists(printable, max_size=FEW).map(tuple),
    offer_only=st.booleans(),
)
chunk_infos = st.builds(
    ChunkInfo,
    digest=digests,
    size=st.integers(1, limits.MAX_CHUNK_BYTES),
    samples=st.integers(0, limits.MAX_SAMPLES_PER_CLASS),
)
encoded_chunk_infos = st.builds(
    ChunkInfo,
    digest=digests,
    size=st.integers(1, 1000),
    samples=st.integers(0, limits.MAX_SAMPLES_PER_CLASS),
    plain_size=st.just(0) | st.integers(1001, limits.MAX_CHUNK_BYTES),
)
plain_offers = st.builds(
    TeachOffer,
    medium=printable,
    model_version=versions,
    classes=classes(least=1),
    chunks=st.lists(chunk_infos, min_size=1, max_size=FEW).map(tuple),
    epsilon=st.floats(0, limits.MAX_EPSILON),
    delta=st.floats(0, 1),
)
encoded_offers = st.builds(
    TeachOffer,
    medium=printable,
    model_version=versions,
    classes=classes(least=1),
    chunks=st.lists(encoded_chunk_infos, min_size=1, max_size=FEW).map(tuple),
    encoding=printable,
)
offers = plain_offers | encoded_offers
chunks = st.builds(
    Chunk, index=st.integers(0, limits.MAX_CHUNKS - 1), data=st.binary(min_size=1, max_size=64)
)
ends = st.builds(TeachEnd, chunks_sent=st.integers(0, 2**32 - 1))
waits = st.builds(TeachWait, ahead=st.integers(0, 2**32 - 1))
parts = waits | offers | chunks | ends
calls = st.builds(Call, number=st.integers(1, 2**64 - 1), method=printable, request=st.binary(max_size=64))
answer_parts = (
    st.integers(0, 2**64 - 1)
    | st.binary(max_size=64)
    | st.builds(
        CallEnd,
        status=st.integers(0, 16),
        detail=st.text(max_size=80),
        retry_after_milliseconds=st.integers(0, 2**32 - 1),
    )
)
