"""The words that the parts of a node speak to each other: small, frozen, free of I/O and of torch."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, NewType, get_args

from qkt_p2p.errors import UsageError
from qkt_p2p.limits import MAX_NAME_CHARACTERS, MAX_ROLE_CHARACTERS

PeerId = NewType("PeerId", str)
"""Base32 of the SHA-256 of a peer's public key: 52 lower-case characters."""

ClassName = NewType("ClassName", str)
"""A class in the federation's label space; see `parse_class_name`."""

QueryId = NewType("QueryId", str)
"""Identifier of a query: 16 lower-case hexadecimal digits."""

Augmentation = Literal["none", "shifts"]
"""What training does to the images that it is shown."""

USUAL_AUGMENTATION: Final[Augmentation] = "shifts"
"""What first training does where nothing else is said."""

MediumName = Literal["features", "moments", "inversion", "weights", "noise"]
MEDIA: Final[tuple[MediumName, ...]] = get_args(MediumName)
"""What synthetic batches can be made of. "auto" takes the first that both sides allow, in this order or in
that which the asker's data suggest."""

RECIPE_MEDIA: Final[tuple[MediumName, ...]] = ("features", "moments")
"""Media of which a chunk is the recipe of one class, in the offer's order; others are of use whole only.

Samples drawn from recipes look like a teacher's data, so that another model recognizes them."""

LIGHT_RANKS: Final[Mapping[str, int]] = {"features": 14, "moments": 8}
"""Principal axes that a light query asks for: a third of the usual number, and a fifth where data are easy
to describe, which is where `auto` takes `moments` (docs/method.md)."""

LIGHT_TEACHERS: Final = 2
"""Teachers that a light query in `features` asks for each class of which the student has no data."""

ZSTD: Final = "zstd"
"""Encoding of chunks: each is one Zstandard frame (RFC 8878) that names its size."""

ENCODINGS: Final = (ZSTD,)
"""How chunks may be encoded for this version to understand them; as they are, in any case."""

PEER_ID_CHARACTERS: Final = 52
_BASE32: Final = frozenset("abcdefghijklmnopqrstuvwxyz234567")
_HEXADECIMAL: Final = frozenset("0123456789abcdef")
_ROLE_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")

Shape = tuple[int, int, int]
"""Shape of one input: channels, height, width."""

ReportDone = Callable[[float, float, str], None]
"""Called as (done, total, message) every few steps of a computation; what it raises ends that."""


def parse_peer_id(text: str) -> PeerId:
    """Return `text` as a peer id; raises UsageError where it is none."""
    if len(text) != PEER_ID_CHARACTERS or not _BASE32.issuperset(text):
        raise UsageError(f"{text[:80]!r} is not a peer id (52 characters of a-z and 2-7)")
    return PeerId(text)


def parse_class_name(text: str) -> ClassName:
    """Return `text` as a class name: 1 to 64 printable characters, NFC, no space at either end, no comma."""
    plausible = 0 < len(text) <= MAX_NAME_CHARACTERS and text.isprintable() and text == text.strip()
    if not plausible or "," in text or unicodedata.normalize("NFC", text) != text:
        raise UsageError(
            f"{text[:80]!r} is not a class name",
            fix="use 1 to 64 printable characters in Unicode's form NFC, without commas or outer spaces",
        )
    return ClassName(text)


def parse_role(text: str) -> str:
    """Return `text` as a role that an authority can give; raises UsageError where it is none."""
    if not 0 < len(text) <= MAX_ROLE_CHARACTERS or not _ROLE_CHARACTERS.issuperset(text):
        raise UsageError(
            f"{text[:80]!r} is not a role", fix=f"use 1 to {MAX_ROLE_CHARACTERS} of a-z, 0-9 and '-'"
        )
    return text


def parse_query_id(text: str) -> QueryId:
    """Return `text` as a query id; raises UsageError where it is none."""
    if len(text) != 16 or not _HEXADECIMAL.issuperset(text):
        raise UsageError(f"{text[:80]!r} is not a query id (16 hexadecimal digits)", fix="qkt-node queries")
    return QueryId(text)


def short(peer: PeerId) -> str:
    """Return the first eight characters of a peer id, enough for people to tell peers apart."""
    return peer[:8]


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """Where a peer might be dialed; `addresses` are "host:port".

    `name` is for people; `age` is how many seconds ago the teller heard of the peer.
    """

    peer: PeerId
    addresses: tuple[str, ...]
    name: str = ""
    age: float = 0.0


@dataclass(frozen=True, slots=True)
class NodeDescription:
    """What a node tells about itself in a Hello."""

    protocol_version: int
    node_name: str
    software_version: str
    known_classes: tuple[ClassName, ...]
    media: tuple[str, ...]
    addresses: tuple[str, ...]
    model_version: int


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """One beat: whether the sender is about to stop, which model it has, and which revocation lists.

    `revocations` is a digest of 64 bits, 0 for none.
    """

    draining: bool
    model_version: int
    revocations: int = 0


@dataclass(frozen=True, slots=True)
class ProbeRequest:
    """Asks for evidence on `probes` synthetic inputs drawn from `seed`; no classes means all."""

    query_id: QueryId
    seed: int
    probes: int
    classes: tuple[ClassName, ...]


@dataclass(frozen=True, slots=True)
class ClassEvidence:
    """How well a model knows a class, in [0, 1], and whether its owner can teach it."""

    class_name: ClassName
    evidence: float
    teachable: bool


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """A teacher's answer to a probe; `media` are those in which it would teach this asker."""

    model_version: int
    input_shape: Shape
    evidence: tuple[ClassEvidence, ...]
    media: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TeachRequest:
    """Asks for synthetic batches of the classes of the mask; chunks of `held` digests need not be sent.

    They are here, or another teacher sends them. `offer_only` asks for no chunk at all.

    `stem` is the asker's stem as an ONNX graph, empty for media that need none; `rank` bounds the size of
    what describes a class, 0 leaves it to the teacher. Chunks may come in one of `encodings`.
    """

    query_id: QueryId
    medium: str
    seed: int
    samples_per_class: int
    classes: tuple[ClassName, ...]
    input_shape: Shape
    held: tuple[bytes, ...] = ()
    stem: bytes = b""
    rank: int = 0
    encodings: tuple[str, ...] = ()
    offer_only: bool = False


@dataclass(frozen=True, slots=True)
class ChunkInfo:
    """Describes one chunk: BLAKE3 digest, size in bytes, samples that it holds or that are drawn from it.

    Digest and size are those of what travels; `plain_size` is that of what it stands for, 0 for a chunk that
    is not encoded.
    """

    digest: bytes
    size: int
    samples: int
    plain_size: int = 0

    @property
    def saved(self) -> int:
        """Bytes that the encoding saves."""
        return self.plain_size - self.size if self.plain_size else 0


@dataclass(frozen=True, slots=True)
class TeachOffer:
    """First part of a response: what will come. `classes` are the columns of the targets.

    `encoding` is that of the chunks which have a plain size, empty where none has. `epsilon` and `delta` are
    those of the differential privacy that noise gives one sample of the teacher's data, 0 without noise.
    """

    medium: str
    model_version: int
    classes: tuple[ClassName, ...]
    chunks: tuple[ChunkInfo, ...]
    encoding: str = ""
    epsilon: float = 0.0
    delta: float = 0.0

    def arrived(self, held: Collection[bytes]) -> tuple[ClassName, ...]:
        """Return the classes that can be learned once the chunks with these digests are there."""
        there = [info.digest in held for info in self.chunks]
        if all(there):
            return self.classes
        if self.medium not in RECIPE_MEDIA or len(self.chunks) != len(self.classes):
            return ()
        return tuple(name for name, came in zip(self.classes, there, strict=True) if came)

    def only(self, classes: Collection[ClassName]) -> TeachOffer:
        """Return what of the offer is about `classes`, as `arrived` named them; the columns stay."""
        if self.classes == tuple(name for name in self.classes if name in classes):
            return self
        chunks = zip(self.classes, self.chunks, strict=True)
        return replace(self, chunks=tuple(info for name, info in chunks if name in classes))


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a response as it travels: a safetensors file or a piece of one (see synthesis/), encoded."""

    index: int
    data: bytes


@dataclass(frozen=True, slots=True)
class TeachWait:
    """Sign of life before an offer: requests that must end first, 0 where the teacher is at work on it."""

    ahead: int


@dataclass(frozen=True, slots=True)
class TeachEnd:
    """Last part of a response: how many chunks were sent."""

    chunks_sent: int


TeachPart = TeachWait | TeachOffer | Chunk | TeachEnd


@dataclass(frozen=True, slots=True)
class TransferRecord:
    """How one response came: seconds until its offer, its bytes that travelled, and the seconds they took."""

    offer_seconds: float
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Query:
    """One query as its asker runs it.

    `deadline_seconds` counts from the start on a monotonic clock; `seed` fixes probes, synthetic
    samples and training. A `light` query (QKT Light) asks less of fewer teachers, and trains less. A `trial`
    measures what the query would bring, and keeps the old model. `quorum` is the number of teachers that each
    class must have. With `force` classes may be asked for that the node knows well already, and own classes
    may lose what nothing measures.
    """

    query_id: QueryId
    classes: tuple[ClassName, ...]
    medium: str
    seed: int
    deadline_seconds: float
    force: bool = False
    trial: bool = False
    light: bool = False
    quorum: int = 1

    @property
    def media(self) -> tuple[str, ...]:
        """The media that may be asked for; where there are several, the asker prefers some."""
        return MEDIA if self.medium == "auto" else (self.medium,)


@dataclass(frozen=True, slots=True)
class Progress:
    """A step of a query went on: amount `done` of `total` (0 where unknown), and a line for people."""

    step: str
    done: float
    total: float
    message: str


@dataclass(frozen=True, slots=True)
class StudentModel:
    """What the asking side must know of its own model: version, L_s (`local`), and what probes find known.

    `scarce` are the local classes of which there are too few samples to know them well. `trained` are the
    classes that it has learned, whether or not probes find them: each must be taught in every update.
    """

    version: int
    input_shape: Shape
    local: tuple[ClassName, ...]
    known: tuple[ClassName, ...]
    scarce: tuple[ClassName, ...] = ()
    trained: tuple[ClassName, ...] = ()


@dataclass(frozen=True, slots=True)
class LearningTask:
    """What one query has collected for its learner, all in one `medium`: from whom, and their evidence."""

    query: Query
    evidence: Mapping[PeerId, Mapping[ClassName, float]]
    medium: str


@dataclass(frozen=True, slots=True)
class ClassAccuracy:
    """Accuracy on one class before and after a query, in [0, 1], and on what it was measured.

    "evaluation": data kept for measuring only; "holdout": own data kept out of training;
    "estimate": synthetic samples kept out of training.
    """

    class_name: ClassName
    before: float
    after: float
    measured_on: Literal["evaluation", "holdout", "estimate"]
    asked: bool


@dataclass(frozen=True, slots=True)
class Validation:
    """What the validation gate found, and whether it lets the new model in."""

    accepted: bool
    reason: str
    accuracy: tuple[ClassAccuracy, ...]
