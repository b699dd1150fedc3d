"""QKT itself in one process: the product's student, lesson and teachers over the in-memory transport."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import qkt_p2p
from qkt_bench.methods import MethodResult
from qkt_bench.peers import MODEL_VERSION, Shelf, TeachingNode, peer_of, teacher_of
from qkt_bench.predictors import Single
from qkt_p2p.asking.retry import ENDLESS
from qkt_p2p.distillation import LearningSettings, oracle_responses
from qkt_p2p.errors import QktError
from qkt_p2p.lesson import Lesson, preferred_media
from qkt_p2p.masking.masks import teacher_weights
from qkt_p2p.outcome import QueryOutcome
from qkt_p2p.own_samples import Asker
from qkt_p2p.student import Student
from qkt_p2p.synthesis.own_stem import own_stem
from qkt_p2p.transport.client import Deadlines
from qkt_p2p.transport.memory import MemoryNetwork
from qkt_p2p.types import ClassAccuracy, Query, QueryId, StudentModel, Validation
from qkt_p2p.wire.encodings import decode_response

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qkt_bench.federation import BenchNode, Federation, Say
    from qkt_bench.queries import BenchQuery
    from qkt_p2p.distillation import Response
    from qkt_p2p.models import Classifier
    from qkt_p2p.seams import ReportProgress
    from qkt_p2p.types import ClassName, LearningTask, PeerId

    Responses = Sequence[Response]

_DEADLINE_SECONDS = 3600.0

_PATIENT = Deadlines(probe=_DEADLINE_SECONDS, stall=_DEADLINE_SECONDS)
"""Teachers answer one after the other here, and the last of them is silent while all others work."""

Phases = Callable[["Lesson", "Responses"], "Classifier"]
"""Lesson, responses -> the student."""


def both_phases(lesson: Lesson, responses: Responses) -> Classifier:
    """Run phase 1, then phase 2: the product's order."""
    return lesson.phase2(lesson.phase1(responses, _unheard), responses, _unheard)


def phase1_alone(lesson: Lesson, responses: Responses) -> Classifier:
    """Leave phase 2 out; with the steps of both in phase 1 this merges them."""
    return lesson.phase1(responses, _unheard)


def swapped_phases(lesson: Lesson, responses: Responses) -> Classifier:
    """Refine the head of the student first, then distil."""
    return lesson.phase1(responses, _unheard, lesson.phase2(lesson.grown(), responses, _unheard))


@dataclass(frozen=True, slots=True)
class Qkt:
    """One query of the product, from probe to gate, as its asker and its teachers run it.

    Ablations change `phases`, `settings`, or have teachers that are not `masked` by evidence. With an
    `epsilon` teachers have a privacy budget that one query spends; each run has noise of its own.
    """

    name: str = "qkt"
    medium: str = "auto"
    light: bool = False
    masked: bool = True
    phases: Phases = both_phases
    settings: LearningSettings = field(default_factory=LearningSettings)
    epsilon: float = 0.0

    @property
    def configuration(self) -> Mapping[str, Any]:
        """Settings, and the library's code: what it computes changes with any part of it."""
        return {
            "medium": self.medium,
            "light": self.light,
            "masked": self.masked,
            "phases": self.phases.__name__,
            "settings": asdict(self.settings),
            "epsilon": self.epsilon,
            "code": code_digest(),
        }

    def run(self, federation: Federation, query: BenchQuery, *, progress: Say) -> MethodResult:
        """Ask all other nodes; a refused or failed query leaves the old model."""
        asker = federation.node(query.asker)
        network, shelf = MemoryNetwork(), Shelf()
        peers = {peer_of(node): node.name for node in federation.others(asker.name)}
        for node in federation.others(asker.name):
            network.serve(
                peer_of(node), TeachingNode(teacher_of(node, epsilon=self.epsilon), masked=self.masked)
            )
        learner = InProcessLearner(asker, shelf, self)
        student = Student(learner, shelf, samples_per_class=self.settings.samples_per_class, patience=ENDLESS)
        outcome = QueryOutcome(query_of(query, self.medium, light=self.light))
        links = [(name, network.connect(peer_of(asker), peer, _PATIENT)) for peer, name in peers.items()]
        model = StudentModel(MODEL_VERSION, asker.train.input_shape, asker.local, asker.local)
        started = time.perf_counter()
        try:
            asyncio.run(
                student.learn(
                    outcome,
                    model,
                    links=links,
                    progress=lambda event: progress(event.step),
                    others_know=federation.classes,
                )
            )
        except QktError as error:
            outcome.reason = error.message
        return MethodResult(
            Single(learner.adopted or asker.classifier),
            bytes_sent=outcome.bytes_sent,
            bytes_received=outcome.bytes_received,
            bytes_federation=outcome.bytes_sent + outcome.bytes_received,
            seconds=time.perf_counter() - started,
            outcome=f"{outcome.outcome}: {outcome.reason}",
            evidence={peers[t.peer]: dict(t.evidence) for t in outcome.teachers.values() if t.evidence},
            chosen={"medium": outcome.medium, "steps": outcome.seconds},
        )


@dataclass(frozen=True, slots=True)
class Oracle:
    """The same lesson with the teachers' real data in place of what they would send.

    Real samples leave nothing to make up for, so the classes asked for are not lifted over them.
    """

    name: str = "oracle"
    medium: str = "features"
    settings: LearningSettings = field(default_factory=lambda: LearningSettings(lift=0.0))

    @property
    def configuration(self) -> Mapping[str, Any]:
        """Settings and code."""
        return {"medium": self.medium, "settings": asdict(self.settings), "code": code_digest()}

    def run(self, federation: Federation, query: BenchQuery, *, progress: Say) -> MethodResult:
        """Learn from everybody's real samples of the classes that the asker wants or has."""
        progress("learning from real data")
        asker = federation.node(query.asker)
        started = time.perf_counter()
        data = {node.name: node.train for node in federation.others(asker.name)}
        wanted = oracle_responses(data, {*query.classes, *asker.local})
        own = oracle_responses({asker.name: asker.train}, asker.local)
        lesson = lesson_of(asker, query_of(query, self.medium), self.medium, self.settings, own=own)
        learned = both_phases(lesson, [lesson.own.behind_stem(response) for response in wanted])
        size = sum(response.inputs.size for response in wanted)
        return MethodResult(
            Single(learned),
            bytes_received=size,
            bytes_federation=size,
            seconds=time.perf_counter() - started,
        )


class InProcessLearner:
    """Learns as the worker of a daemon does, in this process."""

    def __init__(self, node: BenchNode, shelf: Shelf, method: Qkt) -> None:
        self._node = node
        self._shelf = shelf
        self._method = method
        self._lesson: Lesson | None = None
        self._read: dict[PeerId, Response] = {}
        self._candidate = node.classifier
        self.adopted: Classifier | None = None

    async def preferred_media(self) -> tuple[str, ...]:
        """Return the media in the order in which the node learns best from them."""
        node = self._node
        asker = Asker(node.classifier, node.train, node.holdout, teacher_of(node), b"")
        return preferred_media(asker, self._method.settings)

    async def stem(self, medium: str, progress: ReportProgress) -> bytes:
        """Return the stem of the node's model, empty where the medium needs none."""
        del progress
        return stem_of(self._node.classifier, medium)

    async def check_response(self, query: Query, source: PeerId, classes: tuple[ClassName, ...]) -> None:
        """Decode what `source` sent of `classes`; raises ProtocolError."""
        offer = self._shelf.offers[source]
        if self._lesson is None:
            self._lesson = lesson_of(self._node, query, offer.medium, self._method.settings)
        parts = decode_response(offer, self._shelf.held, classes)
        self._read[source] = self._lesson.read(source, offer.classes, parts, {})

    async def phase1(self, task: LearningTask, progress: ReportProgress) -> None:
        """Run what the method makes of both phases."""
        del progress
        assert self._lesson is not None
        self._candidate = self._method.phases(self._lesson, self._responses(task, list(task.evidence)))

    async def phase2(self, task: LearningTask, progress: ReportProgress) -> None:
        """Do nothing: both phases have run."""

    async def validate(self, task: LearningTask, progress: ReportProgress) -> Validation:
        """Let the gate judge the candidate."""
        del progress
        assert self._lesson is not None
        verdict = self._lesson.validate(self._candidate, self._responses(task, list(task.evidence)))
        accuracy = tuple(
            ClassAccuracy(name, change.before, change.after, change.measured_on, name in task.query.classes)
            for name, change in verdict.changes.items()
        )
        return Validation(verdict.accepted, verdict.reason, accuracy)

    async def adopt(self, task: LearningTask) -> int:
        """Keep the candidate."""
        del task
        self.adopted = self._candidate
        return MODEL_VERSION + 1

    def _responses(self, task: LearningTask, sources: Sequence[PeerId]) -> list[Response]:
        weights = teacher_weights({peer: task.evidence[peer] for peer in sources})
        # As a daemon's worker orders them: by what was offered, whatever the peers are called.
        order = sorted(sources, key=lambda peer: [info.digest for info in self._shelf.offers[peer].chunks])
        return [replace(self._read[peer], weights=weights[peer]) for peer in order]


def lesson_of(
    node: BenchNode,
    query: Query,
    medium: str,
    settings: LearningSettings,
    *,
    own: Responses | None = None,
) -> Lesson:
    """Return the lesson of a node's query; `own` samples take the place of synthetic ones."""
    stem = stem_of(node.classifier, medium)
    asker = Asker(node.classifier, node.train, node.holdout, teacher_of(node), stem)
    return Lesson(asker, query, medium, settings, own=own)


def query_of(query: BenchQuery, medium: str, *, light: bool = False) -> Query:
    """Return the product's query for one of the bench."""
    number = QueryId(f"{query.number:016x}")
    return Query(number, query.classes, medium, query.seed, _DEADLINE_SECONDS, light=light)


def stem_of(classifier: Classifier, medium: str) -> bytes:
    """Return a classifier's stem where the medium needs one."""
    return _exported(classifier) if medium == "features" else b""


@cache
def _exported(classifier: Classifier) -> bytes:
    """Export once for each model, as a daemon does for each version of its model."""
    return own_stem(classifier)


def code_digest() -> str:
    """Return a digest of the library's sources, generated ones left out."""
    root = Path(qkt_p2p.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        if "pb" not in path.relative_to(root).parts:
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _unheard(done: float, total: float, message: str) -> None:
    del done, total, message
