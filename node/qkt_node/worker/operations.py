"""What the daemon asks of its worker, and how arguments and results become JSON lines."""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, Literal, TypeVar

from pydantic import TypeAdapter

from qkt_p2p.types import (
    ClassAccuracy,
    ClassName,
    LearningTask,
    PeerId,
    ProbeReport,
    ProbeRequest,
    Query,
    QueryId,
    StudentModel,
    TeachRequest,
    Validation,
)

A = TypeVar("A")
R = TypeVar("R")

Lane = Literal["probe", "serve", "learn"]
"""Operations of one lane run one after the other: peers never wait for training, nor probes for other peers'
banks, which take minutes, but for each other alone. All of them take turns at the cores."""


@dataclass(frozen=True, slots=True)
class Operation(Generic[A, R]):
    """One kind of request; `argument` and `result` check what crosses the process border."""

    name: str
    lane: Lane
    argument: TypeAdapter[A]
    result: TypeAdapter[R]


@dataclass(frozen=True, slots=True)
class ResponseCheck:
    """Asks whether what `source` sent of some `classes` for a query can be used."""

    query: Query
    source: PeerId
    classes: tuple[ClassName, ...]


@dataclass(frozen=True, slots=True)
class ModelPair:
    """Two versions of the node's model, by their numbers."""

    before: int
    after: int


@dataclass(frozen=True, slots=True)
class ModelDifference:
    """How two versions differ: what each has learned, and their accuracy on each class of the node's data."""

    trained_before: tuple[ClassName, ...]
    trained_after: tuple[ClassName, ...]
    accuracy: tuple[ClassAccuracy, ...]


@dataclass(frozen=True, slots=True)
class TeachOrder:
    """A request to be taught whose `stem` is text, base64, so that it fits into a JSON line."""

    request: TeachRequest
    stem: str

    @classmethod
    def of(cls, request: TeachRequest) -> TeachOrder:
        """Return the order to answer a request, whoever asks and whatever is held there already."""
        plain = replace(request, query_id=QueryId(""), held=(), stem=b"", offer_only=False)
        return cls(plain, b64encode(request.stem).decode())

    @property
    def whole(self) -> TeachRequest:
        """The request with its stem."""
        return replace(self.request, stem=b64decode(self.stem))


_NOTHING: Final[TypeAdapter[None]] = TypeAdapter(None)
_TASK: Final = TypeAdapter(LearningTask)

PREPARE: Final = Operation("prepare", "learn", _NOTHING, TypeAdapter(StudentModel))
PROBE: Final = Operation("probe", "probe", TypeAdapter(ProbeRequest), TypeAdapter(ProbeReport))
SYNTHESIZE: Final = Operation("synthesize", "serve", TypeAdapter(TeachOrder), TypeAdapter(str))
PREFERRED_MEDIA: Final = Operation("preferred_media", "learn", _NOTHING, TypeAdapter(tuple[str, ...]))
STEM: Final = Operation("stem", "learn", TypeAdapter(str), TypeAdapter(str))
CHECK_RESPONSE: Final = Operation("check_response", "learn", TypeAdapter(ResponseCheck), _NOTHING)
PHASE1: Final = Operation("phase1", "learn", _TASK, _NOTHING)
PHASE2: Final = Operation("phase2", "learn", _TASK, _NOTHING)
VALIDATE: Final = Operation("validate", "learn", _TASK, TypeAdapter(Validation))
ADOPT: Final = Operation("adopt", "learn", _TASK, TypeAdapter(StudentModel))
ROLL_BACK: Final = Operation("roll_back", "learn", TypeAdapter(int), TypeAdapter(StudentModel))
COMPARE: Final = Operation("compare", "learn", TypeAdapter(ModelPair), TypeAdapter(ModelDifference))
REPORT: Final = Operation("report", "learn", TypeAdapter(dict[str, Any]), TypeAdapter(str))

OPERATIONS: Final[dict[str, Operation[Any, Any]]] = {
    operation.name: operation
    for operation in (
        *(PREPARE, PROBE, SYNTHESIZE),
        *(PREFERRED_MEDIA, STEM, CHECK_RESPONSE, PHASE1, PHASE2, VALIDATE, ADOPT, REPORT),
        *(ROLL_BACK, COMPARE),
    )
}
