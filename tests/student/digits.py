"""Nodes that hold real digits: each a model, its data, and a teacher or a learner on them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from qkt_p2p.datasets import LabelledData, load_dataset, split_holdout
from qkt_p2p.distillation import LearningSettings, Response
from qkt_p2p.lesson import Lesson, preferred_media
from qkt_p2p.masking.masks import teacher_weights
from qkt_p2p.models import (
    Classifier,
    TrainingSettings,
    build_classifier,
    class_accuracies,
    export_stem,
    train_classifier,
)
from qkt_p2p.own_samples import Asker
from qkt_p2p.seams import ReportProgress
from qkt_p2p.teacher import Teacher, TeacherSettings
from qkt_p2p.types import (
    ClassAccuracy,
    ClassName,
    LearningTask,
    PeerId,
    ProbeReport,
    ProbeRequest,
    Progress,
    Query,
    ReportDone,
    StudentModel,
    TeachEnd,
    TeachPart,
    TeachRequest,
    Validation,
)
from qkt_p2p.wire.encodings import decode_response
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
    def trained(
        cls, classes: Collection[str], *, seed: int, few: Mapping[str, int] | None = None
    ) -> DigitsNode:
        """Return a node with up to 60 samples of each class, and with as many as told of the `few`."""
        data, holdout = split_holdout(_digits(classes, 60, seed=seed), 0.2, seed=seed)
        for name, count in (few or {}).items():
            data = _joined(data, _digits([name], count, seed=seed))
        return cls.of(data, holdout, seed=seed)

    @classmethod
    def of(cls, data: LabelledData, holdout: LabelledData, *, seed: int) -> DigitsNode:
        """Return a node that was trained on `data`."""
        fresh = build_classifier(
            "mlp", input_shape=data.input_shape, classes=data.classes, trained=data.present, seed=seed
        )
        classifier = train_classifier(fresh, data, TrainingSettings(), seed=seed, progress=lambda *_: None)
        teacher = Teacher(classifier, data, model_version=1, settings=TeacherSettings(), cache={})
        return cls(data, holdout, classifier, teacher)

    @property
    def model(self) -> StudentModel:
        return StudentModel(1, self.data.input_shape, self.data.present, self.data.present)

    @cached_property
    def stem(self) -> bytes:
        return export_stem(self.classifier, self.classifier.cut)

    def lesson(self, query: Query, medium: str, settings: LearningSettings = SETTINGS) -> Lesson:
        return Lesson(self.asker(self.stem if medium == "features" else b""), query, medium, settings)

    def asker(self, stem: bytes = b"") -> Asker:
        return Asker(self.classifier, self.data, self.holdout, self.teacher, stem)


@dataclass
class DigitsTeacher(FakeTeacher):
    """A handler that answers with a real teacher."""

    teacher: Teacher | None = None

    async def probe(self, caller: PeerId, request: ProbeRequest) -> ProbeReport:
        assert self.teacher is not None
        return replace(self.teacher.probe(request), media=self.media)

    async def teach(self, caller: PeerId, request: TeachRequest) -> AsyncGenerator[TeachPart]:
        assert self.teacher is not None
        self.requests.append(request)
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
    settings: LearningSettings = SETTINGS
    candidate: Classifier | None = None
    adopted: list[Classifier] = field(default_factory=list)

    async def preferred_media(self) -> tuple[str, ...]:
        return preferred_media(self.node.asker(), self.settings)

    async def stem(self, medium: str, progress: ReportProgress) -> bytes:
        return self.node.stem if medium == "features" else b""

    async def check_response(self, query: Query, source: PeerId, classes: tuple[ClassName, ...]) -> None:
        lesson = self.node.lesson(query, self.shelf.offers[source].medium)
        self._taught(lesson, {source: dict.fromkeys(classes, 1.0)})

    async def phase1(self, task: LearningTask, progress: ReportProgress) -> None:
        lesson = self.node.lesson(task.query, task.medium, self.settings)
        responses = self._taught(lesson, task.evidence)
        self.candidate = lesson.phase1(responses, _told("phase1", progress))

    async def phase2(self, task: LearningTask, progress: ReportProgress) -> None:
        assert self.candidate is not None
        lesson = self.node.lesson(task.query, task.medium, self.settings)
        everybody = self._taught(lesson, task.evidence)
        self.candidate = lesson.phase2(self.candidate, everybody, _told("phase2", progress))

    async def validate(self, task: LearningTask, progress: ReportProgress) -> Validation:
        assert self.candidate is not None
        lesson = self.node.lesson(task.query, task.medium, self.settings)
        verdict = lesson.validate(self.candidate, self._taught(lesson, task.evidence))
        accuracy = tuple(
            ClassAccuracy(name, change.before, change.after, change.measured_on, name in task.query.classes)
            for name, change in verdict.changes.items()
        )
        return Validation(verdict.accepted, verdict.reason, accuracy)

    async def adopt(self, task: LearningTask) -> int:
        assert self.candidate is not None
        self.adopted.append(self.candidate)
        return 1 + len(self.adopted)

    def _taught(self, lesson: Lesson, evidence: Mapping[PeerId, Mapping[ClassName, float]]) -> list[Response]:
        weights, offers = teacher_weights(evidence), self.shelf.offers
        return [
            lesson.read(
                peer,
                offers[peer].classes,
                decode_response(offers[peer], self.shelf.held, evidence[peer]),
                weights[peer],
            )
            for peer in evidence
        ]


def accuracies(classifier: Classifier, classes: Collection[str]) -> dict[ClassName, float]:
    """Return accuracies on real test digits that nobody was trained on."""
    test = load_dataset("digits", root=Path()).test
    return class_accuracies(classifier, test, among=[ClassName(name) for name in classes])


def _digits(classes: Collection[str], count: int, *, seed: int) -> LabelledData:
    names = [ClassName(name) for name in classes]
    return load_dataset("digits", root=Path()).train.restrict(names, count, seed=seed)


def _joined(data: LabelledData, more: LabelledData) -> LabelledData:
    assert data.classes == more.classes
    return LabelledData(
        np.concatenate([data.inputs, more.inputs]), np.concatenate([data.labels, more.labels]), data.classes
    )


def _told(step: str, progress: ReportProgress) -> ReportDone:
    return lambda done, total, message: progress(Progress(step, done, total, message))
