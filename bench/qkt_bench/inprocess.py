"""QKT itself in one process: the product's student and teachers over the in-memory transport."""

from __future__ import annotations

import asyncio
import hashlib
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import qkt_p2p
from qkt_bench.methods import MethodResult
from qkt_bench.predictors import Single
from qkt_p2p.distillation import LearningSettings, Response, distill, refine, split_responses, validate
from qkt_p2p.errors import PeerRefusedError, ProtocolError, QktError
from qkt_p2p.masking.masks import teacher_weights
from qkt_p2p.outcome import QueryOutcome
from qkt_p2p.seeds import derived_seed
from qkt_p2p.student import Student
from qkt_p2p.teacher import Teacher, TeacherSettings, own_responses
from qkt_p2p.transport.memory import MemoryNetwork
from qkt_p2p.types import (
    PEER_ID_CHARACTERS,
    ClassAccuracy,
    PeerId,
    Query,
    QueryId,
    StudentModel,
    TeachEnd,
    Validation,
)
from qkt_p2p.wire.tensors import decode_batch

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from qkt_bench.federation import BenchNode, Federation, Say
    from qkt_bench.queries import BenchQuery
    from qkt_p2p.models import Classifier
    from qkt_p2p.seams import ReportProgress
    from qkt_p2p.types import (
        ClassName,
        Heartbeat,
        LearningTask,
        NodeDescription,
        PeerAddress,
        ProbeReport,
        ProbeRequest,
        TeachOffer,
        TeachPart,
        TeachRequest,
    )

_DEADLINE_SECONDS = 3600.0
_MODEL_VERSION = 1


@dataclass(frozen=True, slots=True)
class Qkt:
    """One query of the product, from probe to gate, as its asker and its teachers run it."""

    name: str = "qkt"
    medium: str = "auto"
    settings: LearningSettings = field(default_factory=LearningSettings)

    @property
    def configuration(self) -> Mapping[str, Any]:
        """Settings, and the library's code: what it computes changes with any part of it."""
        return {"medium": self.medium, "settings": asdict(self.settings), "code": code_digest()}

    def run(self, federation: Federation, query: BenchQuery, *, progress: Say) -> MethodResult:
        """Ask all other nodes; a refused or failed query leaves the old model."""
        asker = federation.node(query.asker)
        network, shelf = MemoryNetwork(), Shelf()
        me, peers = _peer(asker), {_peer(node): node.name for node in federation.others(asker.name)}
        for node in federation.others(asker.name):
            network.serve(_peer(node), TeachingNode(_teacher(node)))
        learner = InProcessLearner(asker, shelf, self.settings)
        student = Student(learner, shelf, samples_per_class=self.settings.samples_per_class)
        asked = Query(
            QueryId(f"{query.number:016x}"), query.classes, self.medium, query.seed, _DEADLINE_SECONDS
        )
        outcome = QueryOutcome(asked)
        links = [(name, network.connect(me, peer)) for peer, name in peers.items()]
        model = StudentModel(_MODEL_VERSION, asker.train.input_shape, asker.local, asker.local)
        started = time.perf_counter()
        try:
            asyncio.run(
                student.learn(outcome, model, links=links, progress=lambda event: progress(event.step))
            )
        except QktError as error:
            outcome.reason = error.message
        learned = learner.adopted or asker.classifier
        return MethodResult(
            Single(learned),
            bytes_sent=outcome.bytes_sent,
            bytes_received=outcome.bytes_received,
            bytes_federation=outcome.bytes_sent + outcome.bytes_received,
            seconds=time.perf_counter() - started,
            outcome=f"{outcome.outcome}: {outcome.reason}",
            evidence={peers[t.peer]: dict(t.evidence) for t in outcome.teachers.values() if t.evidence},
            chosen={"medium": outcome.medium, "steps": outcome.seconds},
        )


class TeachingNode:
    """A peer that probes and teaches, and has nothing else to say."""

    def __init__(self, teacher: Teacher) -> None:
        self._teacher = teacher

    async def hello(self, caller: PeerId, node: NodeDescription) -> NodeDescription:
        """Refuse: there is no membership within a bench."""
        raise _only_teaches(caller, node)

    async def heartbeat(self, caller: PeerId, beat: Heartbeat) -> Heartbeat:
        """Refuse."""
        raise _only_teaches(caller, beat)

    async def exchange_peers(self, caller: PeerId, peers: tuple[PeerAddress, ...]) -> tuple[PeerAddress, ...]:
        """Refuse."""
        raise _only_teaches(caller, peers)

    async def exchange_revocations(self, caller: PeerId, lists: bytes) -> bytes:
        """Refuse."""
        raise _only_teaches(caller, lists)

    async def probe(self, caller: PeerId, request: ProbeRequest) -> ProbeReport:
        """Show what the model knows."""
        del caller
        return self._teacher.probe(request)

    async def teach(self, caller: PeerId, request: TeachRequest) -> AsyncGenerator[TeachPart]:
        """Yield the response."""
        del caller
        offer, chunks = self._teacher.teach(request)
        yield offer
        for chunk in chunks:
            yield chunk
        yield TeachEnd(len(chunks))


@dataclass
class Shelf:
    """Keeps what is received in memory, as the journal does on disk."""

    held: dict[bytes, bytes] = field(default_factory=dict)
    offers: dict[str, TeachOffer] = field(default_factory=dict)

    def save_offer(self, query_id: QueryId, source: str, offer: TeachOffer) -> None:
        """Keep what a teacher is going to send."""
        del query_id
        self.offers[source] = offer

    def save_chunk(self, query_id: QueryId, source: str, *, index: int, data: bytes, digest: bytes) -> None:
        """Keep one chunk by its content."""
        del query_id, source, index
        self.held[digest] = data

    def held_digests(self, query_id: QueryId) -> set[bytes]:
        """Return the digests of what was received."""
        del query_id
        return set(self.held)


class InProcessLearner:
    """Learns as the worker of a daemon does, in this process."""

    def __init__(self, node: BenchNode, shelf: Shelf, settings: LearningSettings) -> None:
        self._node = node
        self._shelf = shelf
        self._settings = settings
        self._candidate = node.classifier
        self.adopted: Classifier | None = None

    async def check_response(self, query: Query, source: PeerId) -> None:
        """Decode everything that `source` sent; raises ProtocolError."""
        del query
        self._taught(source, {})

    async def phase1(self, task: LearningTask, progress: ReportProgress) -> None:
        """Distil the relevant teachers' responses into the grown student."""
        del progress
        seed = task.query.seed
        self._candidate = distill(
            self._node.classifier.grown(task.query.classes, seed=derived_seed(seed, "grow")),
            self._node.train,
            self._responses(task, task.relevant)[0],
            self._settings,
            seed=derived_seed(seed, "phase1"),
            progress=_unheard,
        )

    async def phase2(self, task: LearningTask, progress: ReportProgress) -> None:
        """Refine the head on what all teachers sent."""
        del progress
        self._candidate = refine(
            self._candidate,
            self._node.classifier,
            self._node.train,
            self._responses(task, list(task.evidence))[0],
            self._settings,
            seed=derived_seed(task.query.seed, "phase2"),
            progress=_unheard,
        )

    async def validate(self, task: LearningTask, progress: ReportProgress) -> Validation:
        """Let the gate judge the candidate."""
        del progress
        verdict = validate(
            self._node.classifier,
            self._candidate,
            own_holdout=self._node.holdout,
            responses_holdout=self._responses(task, list(task.evidence))[1],
            query=task.query.classes,
            settings=self._settings,
        )
        accuracy = tuple(
            ClassAccuracy(name, change.before, change.after, change.measured_on, name in task.query.classes)
            for name, change in verdict.changes.items()
        )
        return Validation(verdict.accepted, verdict.reason, accuracy)

    async def adopt(self, task: LearningTask) -> int:
        """Keep the candidate."""
        del task
        self.adopted = self._candidate
        return _MODEL_VERSION + 1

    def _responses(
        self, task: LearningTask, sources: Sequence[PeerId]
    ) -> tuple[list[Response], list[Response]]:
        """Return what `sources` and this node itself made: (for training, held out)."""
        weights = teacher_weights({peer: task.evidence[peer] for peer in sources})
        own = own_responses(
            _teacher(self._node),
            self._node.local,
            medium=task.query.chosen_medium,
            samples_per_class=self._settings.samples_per_class,
            seed=derived_seed(task.query.seed, "own"),
        )
        # As a daemon's worker orders them: by what was offered, whatever the peers are called.
        order = sorted(sources, key=lambda peer: [info.digest for info in self._shelf.offers[peer].chunks])
        taught = [self._taught(peer, weights[peer]) for peer in order]
        return split_responses(
            [*taught, *own], self._settings.holdout_fraction, seed=derived_seed(task.query.seed, "holdout")
        )

    def _taught(self, source: PeerId, weights: Mapping[ClassName, float]) -> Response:
        offer = self._shelf.offers[source]
        batches = [
            decode_batch(
                self._shelf.held[info.digest],
                input_shape=self._node.train.input_shape,
                classes=offer.classes,
            )
            for info in offer.chunks
        ]
        if not batches:
            raise ProtocolError(f"peer {source} sent no batch")
        inputs = np.concatenate([batch.inputs for batch in batches])
        targets = np.concatenate([batch.targets for batch in batches])
        return Response(source, offer.classes, inputs, targets, weights)


def code_digest() -> str:
    """Return a digest of the library's sources, generated ones left out."""
    root = Path(qkt_p2p.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        if "pb" not in path.relative_to(root).parts:
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _teacher(node: BenchNode) -> Teacher:
    return Teacher(
        node.classifier, node.train, model_version=_MODEL_VERSION, settings=TeacherSettings(), cache={}
    )


def _peer(node: BenchNode) -> PeerId:
    return PeerId(node.name.replace("-", "").ljust(PEER_ID_CHARACTERS, "a")[:PEER_ID_CHARACTERS])


def _only_teaches(caller: PeerId, *asked: object) -> PeerRefusedError:
    del asked
    return PeerRefusedError(f"nothing but probes and lessons for {caller}")


def _unheard(done: float, total: float, message: str) -> None:
    del done, total, message
