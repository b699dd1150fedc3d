"""Nodes that hold real digits: each a model, its data, and a teacher or a learner on them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from qkt_p2p.datasets import LabelledData, load_dataset, split_holdout
from qkt_p2p.distillation import LearningSettings, Response, distill, refine, split_responses, validate
from qkt_p2p.masking.masks import teacher_weights
from qkt_p2p.models import Classifier, TrainingSettings, build_classifier, class_accuracies, train_classifier
from qkt_p2p.seams import ReportProgress
from qkt_p2p.seeds import derived_seed
from qkt_p2p.teacher import Teacher, TeacherSettings, own_responses
from qkt_p2p.types import (
    ClassAccuracy,
    ClassName,
    LearningTask,
    PeerId,
    ProbeReport,
    ProbeRequest,
    Progress,
    Query,
    StudentModel,
    TeachEnd,
    TeachPart,
    TeachRequest,
    Validation,
)
from qkt_p2p.wire.tensors import decode_batch
from tests.student.classroom import FakeTeacher, Shelf

SETTINGS = replace(LearningSettings(), samples_per_class=100, phase1_steps=100, phase2_steps=40)


@dataclass
class DigitsNode:
    """A node that was trained on some digits."""

    data: LabelledData
    holdout: LabelledData
    classifier: Classifier
    teacher: Teacher

    @classmethod
    def trained(cls, classes: Collection[str], *, seed: int) -> DigitsNode:
        names = [ClassName(name) for name in classes]
        source = load_dataset("digits", root=Path()).train.restrict(names, 60, seed=seed)
        data, holdout = split_holdout(source, 0.2, seed=seed)
        fresh = build_classifier(
            "mlp", input_shape=data.input_shape, classes=data.classes, trained=data.present, seed=seed
        )
        classifier = train_classifier(fresh, data, TrainingSettings(), seed=seed, progress=lambda *_: None)
        teacher = Teacher(classifier, data, model_version=1, settings=TeacherSettings(), cache={})
        return cls(data, holdout, classifier, teacher)

    @property
    def model(self) -> StudentModel:
        return StudentModel(1, self.data.input_shape, self.data.present, self.data.present)


@dataclass
class DigitsTeacher(FakeTeacher):
    """A handler that answers with a real teacher."""

    teacher: Teacher | None = None

    async def probe(self, caller: PeerId, request: ProbeRequest) -> ProbeReport:
        assert self.teacher is not None
        return self.teacher.probe(request)

    async def teach(self, caller: PeerId, request: TeachRequest) -> AsyncGenerator[TeachPart]:
        assert self.teacher is not None
        offer, chunks = self.teacher.teach(request)
        yield offer
        for chunk in chunks:
            yield chunk
        yield TeachEnd(len(chunks))


@dataclass
class DigitsLearner:
    """Learns in this process from what lies on the shelf."""

    node: DigitsNode
    shelf: Shelf
    candidate: Classifier | None = None
    adopted: list[Classifier] = field(default_factory=list)

    async def check_response(self, query: Query, source: PeerId) -> None:
        self._taught(source, {})

    async def phase1(self, task: LearningTask, progress: ReportProgress) -> None:
        self.candidate = distill(
            self.node.classifier.grown(task.query.classes, seed=derived_seed(task.query.seed, "grow")),
            self.node.data,
            self._responses(task, task.relevant)[0],
            SETTINGS,
            seed=derived_seed(task.query.seed, "phase1"),
            progress=_told("phase1", progress),
        )

    async def phase2(self, task: LearningTask, progress: ReportProgress) -> None:
        assert self.candidate is not None
        self.candidate = refine(
            self.candidate,
            self.node.classifier,
            self.node.data,
            self._responses(task, list(task.evidence))[0],
            SETTINGS,
            seed=derived_seed(task.query.seed, "phase2"),
            progress=_told("phase2", progress),
        )

    async def validate(self, task: LearningTask, progress: ReportProgress) -> Validation:
        assert self.candidate is not None
        verdict = validate(
            self.node.classifier,
            self.candidate,
            own_holdout=self.node.holdout,
            responses_holdout=self._responses(task, list(task.evidence))[1],
            query=task.query.classes,
            settings=SETTINGS,
        )
        accuracy = tuple(
            ClassAccuracy(name, change.before, change.after, change.measured_on, name in task.query.classes)
            for name, change in verdict.changes.items()
        )
        return Validation(verdict.accepted, verdict.reason, accuracy)

    async def adopt(self, task: LearningTask) -> int:
        assert self.candidate is not None
        self.adopted.append(self.candidate)
        return 1 + len(self.adopted)

    def _responses(
        self, task: LearningTask, sources: Sequence[PeerId]
    ) -> tuple[list[Response], list[Response]]:
        weights = teacher_weights({peer: task.evidence[peer] for peer in sources})
        taught = [self._taught(peer, weights[peer]) for peer in sources]
        own = own_responses(
            self.node.teacher,
            self.node.data.present,
            medium="moments",
            samples_per_class=SETTINGS.samples_per_class,
            seed=derived_seed(task.query.seed, "own"),
        )
        return split_responses([*taught, *own], SETTINGS.holdout_fraction, seed=task.query.seed)

    def _taught(self, source: PeerId, weights: dict[ClassName, float]) -> Response:
        offer, chunks = self.shelf.offers[source], self.shelf.chunks[source]
        batches = [
            decode_batch(chunks[at], input_shape=self.node.data.input_shape, classes=offer.classes)
            for at in sorted(chunks)
        ]
        return Response(
            source=source,
            classes=offer.classes,
            inputs=np.concatenate([batch.inputs for batch in batches]),
            targets=np.concatenate([batch.targets for batch in batches]),
            weights=weights,
        )


def accuracies(classifier: Classifier, classes: Collection[str]) -> dict[ClassName, float]:
    """Return accuracies on real test digits that nobody was trained on."""
    test = load_dataset("digits", root=Path()).test
    return class_accuracies(classifier, test, among=[ClassName(name) for name in classes])


def _told(step: str, progress: ReportProgress) -> Callable[[float, float, str], None]:
    return lambda done, total, message: progress(Progress(step, done, total, message))
