"""The teacher's page: what is answered, to whom, and that it is the same every time."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from qkt_p2p.datasets import LabelledData, load_dataset
from qkt_p2p.errors import PeerRefusedError
from qkt_p2p.limits import MAX_PROBES
from qkt_p2p.models import Classifier, TrainingSettings, build_classifier, train_classifier
from qkt_p2p.teacher import Teacher, TeacherSettings, own_responses
from qkt_p2p.types import ClassName, ProbeRequest, QueryId, TeachRequest
from qkt_p2p.wire.tensors import decode_batch

A, B, SCARCE, OTHER = (ClassName(name) for name in "0175")
PROBE = ProbeRequest(QueryId("0" * 16), seed=5, probes=512, classes=())
TEACH = TeachRequest(
    QueryId("0" * 16), "moments", seed=6, samples_per_class=40, classes=(B, OTHER, A), input_shape=(1, 8, 8)
)
SMALL_CHUNKS = TeacherSettings(chunk_bytes=2000)


@pytest.fixture(scope="module")
def data() -> LabelledData:
    train = load_dataset("digits", root=Path()).train
    scarce = np.flatnonzero(train.labels == train.classes.index(SCARCE))[:5]
    plenty = np.flatnonzero(np.isin(train.labels, [train.classes.index(name) for name in (A, B)]))
    return train.select(np.sort(np.concatenate([scarce, plenty[:160]])))


@pytest.fixture(scope="module")
def classifier(data: LabelledData) -> Classifier:
    fresh = build_classifier("mlp", input_shape=(1, 8, 8), classes=data.classes, trained=data.present, seed=0)
    return train_classifier(fresh, data, TrainingSettings(), seed=0, progress=lambda *_: None)


def teacher_of(
    classifier: Classifier, data: LabelledData, settings: TeacherSettings = SMALL_CHUNKS
) -> Teacher:
    return Teacher(classifier, data, model_version=3, settings=settings, cache={})


def test_a_probe_reports_every_class_that_was_asked_for(classifier: Classifier, data: LabelledData) -> None:
    """Classes known and held are teachable; those held too scarcely, or never seen, are not."""
    report = teacher_of(classifier, data).probe(PROBE)
    assert (report.model_version, report.input_shape) == (3, (1, 8, 8))
    assert [entry.class_name for entry in report.evidence] == list(data.classes)
    assert {entry.class_name for entry in report.evidence if entry.teachable} == {A, B}
    some = teacher_of(classifier, data).probe(replace(PROBE, classes=(OTHER, ClassName("zebra"))))
    assert [entry.class_name for entry in some.evidence] == [OTHER]
    assert some.evidence[0] in report.evidence


@pytest.mark.parametrize("probes", [0, MAX_PROBES + 1])
def test_a_number_of_probes_out_of_bounds_is_refused(
    classifier: Classifier, data: LabelledData, probes: int
) -> None:
    """No asker makes a teacher work without limit."""
    with pytest.raises(PeerRefusedError, match="probes"):
        teacher_of(classifier, data).probe(replace(PROBE, probes=probes))


def test_a_response_is_what_its_offer_says(classifier: Classifier, data: LabelledData) -> None:
    """Digests, sizes and samples agree, and each chunk decodes to targets over the mask."""
    offer, chunks = teacher_of(classifier, data).teach(TEACH)
    assert offer.classes == (B, A)
    assert (offer.medium, offer.model_version) == ("moments", 3)
    assert [chunk.index for chunk in chunks] == list(range(len(offer.chunks)))
    assert len(chunks) == 3
    batches = []
    for info, chunk in zip(offer.chunks, chunks, strict=True):
        assert (sha256(chunk.data).digest(), len(chunk.data)) == (info.digest, info.size)
        batches.append(decode_batch(chunk.data, input_shape=(1, 8, 8), classes=offer.classes))
        assert len(batches[-1]) == info.samples
    labels = np.concatenate([batch.targets.argmax(1) for batch in batches])
    assert np.bincount(labels).tolist() == [40, 40]


def test_the_same_request_has_the_same_bytes(classifier: Classifier, data: LabelledData) -> None:
    """A restarted teacher can resume, as digests depend on the request and the model alone."""
    first, second = (teacher_of(classifier, data).teach(TEACH) for _ in range(2))
    assert first == second
    assert first != teacher_of(classifier, data).teach(replace(TEACH, seed=7))


def test_held_chunks_are_offered_but_not_sent(classifier: Classifier, data: LabelledData) -> None:
    """What the asker has already costs no bytes."""
    offer, chunks = teacher_of(classifier, data).teach(TEACH)
    again, rest = teacher_of(classifier, data).teach(replace(TEACH, held=(offer.chunks[1].digest,)))
    assert again == offer
    assert rest == [chunks[0], chunks[2]]


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (replace(TEACH, input_shape=(3, 8, 8)), r"inputs of \(3, 8, 8\)"),
        (replace(TEACH, medium="telepathy"), "telepathy"),
        (replace(TEACH, classes=(OTHER, SCARCE, ClassName("zebra"))), "none of 5, 7, zebra"),
        (replace(TEACH, classes=()), "none of"),
        (replace(TEACH, samples_per_class=0), "out of bounds"),
    ],
)
def test_what_cannot_be_taught_is_refused_with_the_reason(
    classifier: Classifier, data: LabelledData, request_: TeachRequest, reason: str
) -> None:
    """Another size, an unknown medium, no class in common and a bad number are each named."""
    with pytest.raises(PeerRefusedError, match=reason):
        teacher_of(classifier, data).teach(request_)


def test_a_teacher_bounds_its_own_work(classifier: Classifier, data: LabelledData) -> None:
    """More samples than the settings allow are cut; more numbers in all are refused."""
    offer, _ = teacher_of(classifier, data, TeacherSettings(max_samples_per_class=9)).teach(TEACH)
    assert sum(info.samples for info in offer.chunks) == 18
    with pytest.raises(PeerRefusedError, match="out of bounds"):
        teacher_of(classifier, data, TeacherSettings(max_numbers=1000)).teach(TEACH)


def test_a_student_makes_batches_of_its_own_classes(classifier: Classifier, data: LabelledData) -> None:
    """Scarce classes are left out; without any class there is no response."""
    me = teacher_of(classifier, data)
    (response,) = own_responses(me, [A, SCARCE, B], medium="moments", samples_per_class=10, seed=1)
    assert (response.source, response.classes, len(response)) == ("own", (A, B), 20)
    assert own_responses(me, [SCARCE], medium="moments", samples_per_class=10, seed=1) == []
