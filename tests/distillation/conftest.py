"""One student that knows three digits, and teachers' synthetic responses for a fourth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from qkt_p2p.datasets import LabelledData, load_dataset
from qkt_p2p.distillation import Response
from qkt_p2p.models import Classifier, TrainingSettings, build_classifier, train_classifier
from qkt_p2p.synthesis import Bank, make_batch
from qkt_p2p.synthesis.moments import Moments
from qkt_p2p.types import ClassName

KNOWN = tuple(ClassName(name) for name in "269")
ASKED = ClassName("4")


@dataclass(frozen=True)
class Lesson:
    """Everything that a query needs, made without a network."""

    before: Classifier
    grown: Classifier
    own: LabelledData
    responses: list[Response]
    test: LabelledData


def trained(data: LabelledData, architecture: str) -> Classifier:
    classifier = build_classifier(
        architecture, input_shape=data.input_shape, classes=data.classes, trained=data.present, seed=0
    )
    return train_classifier(classifier, data, TrainingSettings(), seed=0, progress=lambda *_: None)


def response(classifier: Classifier, data: LabelledData, source: str) -> Response:
    bank = Bank(Moments(), data, model_version=1, cache={})
    return Response.from_batch(
        source, make_batch(bank, classifier, data.present, samples_per_class=200, seed=3)
    )


@pytest.fixture(scope="session", params=["cnn", "mlp"])
def lesson(request: pytest.FixtureRequest) -> Lesson:
    """A student of the architecture, and what one teacher and its own data taught it."""
    dataset = load_dataset("digits", root=Path())
    own = dataset.train.restrict(KNOWN, 60, seed=0)
    elsewhere = dataset.train.restrict([ASKED, ClassName("0")], 60, seed=1)
    before = trained(own, request.param)
    teacher = trained(elsewhere, request.param)
    responses = [response(teacher, elsewhere, "teacher"), response(before, own, "own")]
    return Lesson(before, before.grown([ASKED], seed=7), own, responses, dataset.test)
