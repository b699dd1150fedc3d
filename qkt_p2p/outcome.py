"""What a query did, filled in step by step, so that a failed one can be explained too."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - read at run time where an outcome becomes JSON
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from qkt_p2p.types import ClassAccuracy, ClassName, PeerId, Query  # noqa: TC001 - likewise

if TYPE_CHECKING:
    from collections.abc import Iterable

STEPS = ("discover", "probe", "collect", "phase1", "phase2", "validate")


@dataclass(slots=True)
class TeacherOutcome:
    """What one peer contributed: the classes of its mask, what it sent, and why it was left out.

    `teachable` are the classes of its probe's answer; `classes` those that it was found fit for, then those
    of its offer, then those that arrived; `missing` are those that did not, where only a part did.
    `chunks` and `bytes` travelled, in all `attempts` together; `held_chunks` and `held_bytes` of its last
    offer did not, because they were there already. `bytes_saved` are those that the `encoding` of what
    travelled saved. `digest` is that of what is used of the response.

    `epsilon` is that of the differential privacy of what it offered, 0 without noise; `withheld` are classes
    asked for that it did not offer then. It has `spent` its budget where it offered nothing for that.

    It `misbehaved` where it broke the protocol, rather than being away or unwilling; it `vanished` where it
    went away and did not come back. It was `cut` where it was too slow, by itself or for the deadline. It
    `stood_in` where another teacher had failed.
    """

    peer: PeerId
    name: str
    evidence: Mapping[ClassName, float] = field(default_factory=dict)
    teachable: tuple[ClassName, ...] = ()
    classes: tuple[ClassName, ...] = ()
    missing: tuple[ClassName, ...] = ()
    media: tuple[str, ...] = ()
    samples: int = 0
    chunks: int = 0
    bytes: int = 0
    bytes_saved: int = 0
    encoding: str = ""
    held_chunks: int = 0
    held_bytes: int = 0
    attempts: int = 0
    digest: str = ""
    weight: float = 0.0
    used: bool = False
    reason: str = ""
    cut: Literal["", "slow", "deadline"] = ""
    stood_in: bool = False
    epsilon: float = 0.0
    withheld: tuple[ClassName, ...] = ()
    spent: bool = False
    misbehaved: bool = False
    vanished: bool = False


@dataclass(slots=True)
class QueryOutcome:
    """One query as its owner and its report see it; `as_data` is the contract's JSON object.

    `unreached` are a few reasons why there was nobody to ask. `finished` are the steps that need not be taken
    again, and `verdict` is what the validation gate said; the query's `outcome` is that too, once the model
    is adopted.
    """

    query: Query
    unreached: tuple[str, ...] = ()
    finished: tuple[str, ...] = ()
    verdict: Literal["", "accepted", "refused"] = ""
    medium: str = ""
    outcome: Literal["accepted", "refused", "failed"] = "failed"
    reason: str = ""
    teachers: dict[PeerId, TeacherOutcome] = field(default_factory=dict)
    accuracy: tuple[ClassAccuracy, ...] = ()
    bytes_sent: int = 0
    bytes_received: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    model_version: int = 0
    report: str = ""

    def as_data(self) -> dict[str, Any]:
        """Return the `data` of `qkt-node query`, as docs/commands.md describes it."""
        query = self.query
        return {
            "query_id": query.query_id,
            "classes": list(query.classes),
            "outcome": self.outcome,
            "reason": self.reason,
            "mode": "light" if query.light else "qkt",
            "trial": query.trial,
            "force": query.force,
            "medium": self.medium,
            "accuracy": {item.class_name: _accuracy(item) for item in self.accuracy},
            "mean_query_accuracy": _means(item for item in self.accuracy if item.asked),
            "mean_local_accuracy": _means(item for item in self.accuracy if not item.asked),
            "teachers": [_teacher(teacher) for teacher in self.teachers.values()],
            "masks": {teacher.peer: dict(teacher.evidence) for teacher in self.teachers.values()},
            "bytes_sent": self.bytes_sent,
            "bytes_received": self.bytes_received,
            "bytes_saved": sum(teacher.bytes_saved for teacher in self.teachers.values()),
            "seconds": {**{step: self.seconds.get(step, 0.0) for step in STEPS}, "total": self.total_seconds},
            "epsilon_spent": {
                teacher.peer: teacher.epsilon
                for teacher in self.teachers.values()
                if teacher.epsilon and teacher.chunks + teacher.held_chunks
            },
            "model_version": self.model_version,
            "report": self.report,
            "seed": query.seed,
            "peer_names": {teacher.peer: teacher.name for teacher in self.teachers.values()},
            "quorum": {"asked": query.quorum, "reached": self.taught_by},
        }

    @property
    def seconds_left(self) -> float:
        """Seconds of the query's deadline that its finished steps have left; finding peers does not count."""
        used = sum(seconds for step, seconds in self.seconds.items() if step in self.finished)
        return self.query.deadline_seconds - used

    @property
    def taught_by(self) -> dict[ClassName, int]:
        """Number of teachers whose response is used, for each class asked for."""
        used = [teacher for teacher in self.teachers.values() if teacher.used]
        return {name: sum(name in teacher.classes for teacher in used) for name in self.query.classes}

    @property
    def has_quorum(self) -> bool:
        """Whether each class asked for has as many teachers as the query wants."""
        return all(count >= self.query.quorum for count in self.taught_by.values())

    @property
    def total_seconds(self) -> float:
        """Seconds over all steps; the steps follow each other."""
        return round(sum(self.seconds.values()), 3)


def _accuracy(item: ClassAccuracy) -> dict[str, Any]:
    return {
        "before": item.before,
        "after": item.after,
        "measured_on": item.measured_on,
        "asked": item.asked,
    }


def _means(items: Iterable[ClassAccuracy]) -> dict[str, float | None]:
    """Return mean accuracies, None where nothing was measured."""
    found = list(items)
    if not found:
        return {"before": None, "after": None}
    return {"before": fmean(item.before for item in found), "after": fmean(item.after for item in found)}


def _teacher(teacher: TeacherOutcome) -> dict[str, Any]:
    return {
        "peer": teacher.peer,
        "name": teacher.name,
        "classes": list(teacher.classes),
        "missing": list(teacher.missing),
        "samples": teacher.samples,
        "bytes": teacher.bytes,
        "bytes_saved": teacher.bytes_saved,
        "encoding": teacher.encoding,
        "weight": teacher.weight,
        "used": teacher.used,
        "reason": teacher.reason,
        "attempts": teacher.attempts,
        "chunks": teacher.chunks,
        "held_chunks": teacher.held_chunks,
        "held_bytes": teacher.held_bytes,
        "digest": teacher.digest,
        "cut": teacher.cut,
        "stood_in": teacher.stood_in,
        "withheld": list(teacher.withheld),
    }
