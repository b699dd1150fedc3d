"""One student that knows three digits, and teachers' synthetic responses for a fourth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf, prod
from pathlib import Path

import numpy as np
import pytest

from qkt_p2p.datasets import LabelledData, load_dataset
from qkt_p2p.distillation import LearningSettings, Response
from qkt_p2p.models import Classifier, TrainingSettings, build_classifier, export_stem, train_classifier
from qkt_p2p.synthesis import Reading, medium_of
from qkt_p2p.synthesis.prototypes import Surroundings
from qkt_p2p.teacher import Teacher, TeacherSettings
from qkt_p2p.types import ClassName, QueryId, TeachRequest

KNOWN = tuple(ClassName(name) for name in "269")
ASKED = ClassName("4")


@dataclass(frozen=True)
class Course:
    """Everything that a query needs, made without a network; `settings` know the cut of the responses."""

    before: Classifier
    grown: Classifier
    own: LabelledData
    responses: list[Response]
    test: LabelledData
    settings: LearningSettings


def trained(data: LabelledData, architecture: str) -> Classifier:
    classifier = build_classifier(
        architecture, input_shape=data.input_shape, classes=data.classes, trained=data.present, seed=0
    )
    return train_classifier(classifier, data, TrainingSettings(), seed=0, progress=lambda *_: None)


def response(
    classifier: Classifier, data: LabelledData, source: str, *, asker: Classifier, cut: int
) -> Response:
    """Return what a teacher's recipes stand for, as features of the asker where there is a cut."""
    request = TeachRequest(
        QueryId("0" * 16),
        "features" if cut else "moments",
        seed=3,
        samples_per_class=200,
        classes=data.present,
        input_shape=asker.input_shape,
        stem=export_stem(asker, cut) if cut else b"",
    )
    teacher = Teacher(classifier, data, model_version=1, settings=TeacherSettings(), cache={})
    offer, chunks = teacher.teach(request)
    shape = asker.feature_shape(cut)
    none = np.zeros((0, prod(shape)), np.float32)
    reading = Reading(
        shape,
        0.0,
        inf if cut else 1.0,
        samples_per_class=200,
        affordable=1000,
        seed=3,
        own=Surroundings(none, none),
    )
    medium = medium_of(request.medium)
    assert medium is not None
    return Response.from_batch(source, medium.read([chunk.data for chunk in chunks], offer.classes, reading))


@pytest.fixture(scope="session", params=[("cnn", 0), ("cnn", 2), ("mlp", 0)], ids=str)
def course(request: pytest.FixtureRequest) -> Course:
    """A student of the architecture, and what one teacher and its own data taught it behind the cut."""
    architecture, cut = request.param
    dataset = load_dataset("digits", root=Path())
    own = dataset.train.restrict(KNOWN, 60, seed=0)
    elsewhere = dataset.train.restrict([ASKED, ClassName("0")], 60, seed=1)
    before = trained(own, architecture)
    teacher = trained(elsewhere, architecture)
    responses = [
        response(teacher, elsewhere, "teacher", asker=before, cut=cut),
        response(before, own, "own", asker=before, cut=cut),
    ]
    settings = replace(LearningSettings(), cut=cut)
    return Course(before, before.grown([ASKED], seed=7), own, responses, dataset.test, settings)
