"""The teacher's page: what is answered, to whom, and that it is the same every time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from qkt_p2p.datasets import LabelledData, load_dataset
from qkt_p2p.digests import chunk_digest
from qkt_p2p.errors import BudgetSpentError, CancelledError, PeerRefusedError
from qkt_p2p.limits import MAX_PROBES
from qkt_p2p.masking.masks import mask_of
from qkt_p2p.models import Classifier, TrainingSettings, build_classifier, train_classifier
from qkt_p2p.privacy.accountant import PrivacyBudget, epsilon_of
from qkt_p2p.privacy.ledger import Privacy
from qkt_p2p.store.journal import Journal
from qkt_p2p.synthesis.release import MIN_RELEASE_SAMPLES
from qkt_p2p.teacher import Teacher, TeacherSettings
from qkt_p2p.types import MEDIA, RECIPE_MEDIA, ZSTD, ClassName, ProbeRequest, QueryId, TeachRequest
from qkt_p2p.wire.encodings import decode_chunks
from qkt_p2p.wire.prototypes import decode_prototype
from qkt_p2p.wire.recipes import decode_recipe

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
    assert (report.model_version, report.input_shape, report.media) == (3, (1, 8, 8), MEDIA)
    assert [entry.class_name for entry in report.evidence] == list(data.classes)
    assert {entry.class_name for entry in report.evidence if entry.teachable} == {A, B}
    some = teacher_of(classifier, data).probe(replace(PROBE, classes=(OTHER, ClassName("zebra"))))
    assert [entry.class_name for entry in some.evidence] == [OTHER]
    assert some.evidence[0] in report.evidence


def test_what_it_has_learned_and_holds_it_can_teach_whatever_probes_find(data: LabelledData) -> None:
    """That is what it knows of itself; the evidence is what they find, and the asker's mask goes by that."""
    names = data.classes
    unsure = build_classifier("mlp", input_shape=(1, 8, 8), classes=names, trained=(A, OTHER), seed=0).eval()
    with torch.no_grad():
        unsure.head.weight.zero_()
    report = teacher_of(unsure, data).probe(PROBE)
    assert mask_of({entry.class_name: entry.evidence for entry in report.evidence}) == ()
    assert [entry.class_name for entry in report.evidence if entry.teachable] == [A]


@pytest.mark.parametrize("probes", [0, MAX_PROBES + 1])
def test_a_number_of_probes_out_of_bounds_is_refused(
    classifier: Classifier, data: LabelledData, probes: int
) -> None:
    """No asker makes a teacher work without limit."""
    with pytest.raises(PeerRefusedError, match="probes"):
        teacher_of(classifier, data).probe(replace(PROBE, probes=probes))


def test_a_response_is_what_its_offer_says(classifier: Classifier, data: LabelledData) -> None:
    """Digests, sizes and samples agree, and each chunk is a recipe with targets over the mask."""
    offer, chunks = teacher_of(classifier, data).teach(TEACH)
    assert offer.classes == (B, A)
    assert (offer.medium, offer.model_version) == ("moments", 3)
    assert [chunk.index for chunk in chunks] == list(range(len(offer.chunks)))
    assert len(chunks) == 2
    for column, (info, chunk) in enumerate(zip(offer.chunks, chunks, strict=True)):
        assert (chunk_digest(chunk.data), len(chunk.data)) == (info.digest, info.size)
        recipe = decode_recipe(chunk.data, numbers=64, classes=offer.classes)
        assert set(recipe.targets.argmax(1)) == {column}
        assert info.samples == 40


@pytest.mark.parametrize("medium", ["moments", "inversion", "noise"])
def test_chunks_are_encoded_for_an_asker_that_understands(
    classifier: Classifier, data: LabelledData, medium: str
) -> None:
    """They stand for what an asker of an older version gets, which names no encoding; recipes get smaller."""
    asked = replace(TEACH, medium=medium)
    plain, as_they_are = teacher_of(classifier, data).teach(asked)
    offer, chunks = teacher_of(classifier, data).teach(replace(asked, encodings=("lzma", ZSTD)))
    assert (plain.encoding, {info.plain_size for info in plain.chunks}) == ("", {0})
    assert [info.size for info in offer.chunks] == [len(chunk.data) for chunk in chunks]
    assert [info.digest for info in offer.chunks] == [chunk_digest(chunk.data) for chunk in chunks]
    assert decode_chunks(offer, [chunk.data for chunk in chunks]) == [chunk.data for chunk in as_they_are]
    saved = sum(info.size for info in plain.chunks) - sum(info.size for info in offer.chunks)
    assert saved == sum(info.saved for info in offer.chunks)
    assert bool(saved) == bool(offer.encoding)
    if medium == "moments":
        assert saved > 0.3 * sum(info.size for info in plain.chunks)


def test_the_same_request_has_the_same_bytes(classifier: Classifier, data: LabelledData) -> None:
    """A restarted teacher can resume, as digests depend on the request and the model alone.

    A recipe does not depend on the seed, with which its asker draws; answers to noise do.
    """
    first, second = (teacher_of(classifier, data).teach(TEACH) for _ in range(2))
    assert first == second
    assert first == teacher_of(classifier, data).teach(replace(TEACH, seed=7))
    noise = replace(TEACH, medium="noise")
    assert teacher_of(classifier, data).teach(noise) == teacher_of(classifier, data).teach(noise)
    assert teacher_of(classifier, data).teach(noise) != teacher_of(classifier, data).teach(
        replace(noise, seed=7)
    )


def test_held_chunks_are_offered_but_not_sent(classifier: Classifier, data: LabelledData) -> None:
    """What the asker has already costs no bytes."""
    asked = replace(TEACH, medium="inversion")
    offer, chunks = teacher_of(classifier, data).teach(asked)
    again, rest = teacher_of(classifier, data).teach(replace(asked, held=(offer.chunks[1].digest,)))
    assert len(chunks) == 3
    assert again == offer
    assert rest == [chunks[0], chunks[2]]


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (replace(TEACH, input_shape=(2, 8, 8)), r"inputs of \(2, 8, 8\)"),
        (replace(TEACH, input_shape=(1, 64, 64)), r"inputs of \(1, 64, 64\)"),
        (replace(TEACH, medium="telepathy"), "telepathy"),
        (replace(TEACH, classes=(OTHER, SCARCE, ClassName("zebra"))), "none of 5, 7, zebra"),
        (replace(TEACH, classes=()), "none of"),
        (replace(TEACH, samples_per_class=0), "out of bounds"),
    ],
)
def test_what_cannot_be_taught_is_refused_with_the_reason(
    classifier: Classifier, data: LabelledData, request_: TeachRequest, reason: str
) -> None:
    """Other colours, a size far off, an unknown medium, no class in common, a bad number: each is named."""
    with pytest.raises(PeerRefusedError, match=reason):
        teacher_of(classifier, data).teach(request_)


def test_a_teacher_bounds_its_own_work(classifier: Classifier, data: LabelledData) -> None:
    """As many samples of all classes together as the settings allow are made, and not one more."""
    bounded = teacher_of(classifier, data, TeacherSettings(max_samples=80))
    offer, _ = bounded.teach(TEACH)
    assert sum(info.samples for info in offer.chunks) == 80
    with pytest.raises(PeerRefusedError, match="41 samples of each of 2 classes are out of bounds"):
        bounded.teach(replace(TEACH, samples_per_class=41))


def test_what_is_scarce_is_not_held(classifier: Classifier, data: LabelledData) -> None:
    """From eight samples on a class can be taught; of fewer nothing is released."""
    me = teacher_of(classifier, data)
    assert [name for name in data.classes if me.holds(name)] == [A, B]
    assert not me.holds(ClassName("zebra"))
    more = np.flatnonzero(data.labels != data.classes.index(SCARCE))
    rest = np.flatnonzero(data.labels == data.classes.index(SCARCE))
    enough = data.select(np.concatenate([more, np.resize(rest, MIN_RELEASE_SAMPLES)]))
    assert teacher_of(classifier, enough).holds(SCARCE)


def test_progress_is_told_and_can_end_the_work(classifier: Classifier, data: LabelledData) -> None:
    """What the report raises is raised, in every medium that works class by class."""
    seen: list[str] = []
    teacher_of(classifier, data).teach(
        TEACH, lambda done, total, message: seen.append(f"{done}/{total} {message}")
    )
    assert [line for line in seen if "describing" in line] == ["0/2 describing 1", "1/2 describing 0"]

    def cancel(done: float, total: float, message: str) -> None:
        raise CancelledError("interrupted")

    for medium in set(MEDIA) - {"features"}:
        with pytest.raises(CancelledError):
            teacher_of(classifier, data).teach(replace(TEACH, medium=medium), cancel)


def test_a_probe_can_be_given_up(classifier: Classifier, data: LabelledData) -> None:
    """While the probes are made, and between the batches that the model is asked about."""
    seen: list[str] = []
    teacher = teacher_of(classifier, data)
    report = teacher.probe(PROBE, lambda done, total, message: seen.append(message))
    assert report == teacher.probe(PROBE)
    assert set(seen) == {"making probes", "asking the model"}
    for told in set(seen):

        def cancel(done: float, total: float, message: str, until: str = told) -> None:
            if message == until:
                raise CancelledError("interrupted")

        with pytest.raises(CancelledError):
            teacher.probe(PROBE, cancel)


ONE_RELEASE = PrivacyBudget(epsilon=2.5, release_epsilon=2.0, delta=1e-6)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path / "state.sqlite")
    yield opened
    opened.close()


def private_teacher(
    classifier: Classifier,
    data: LabelledData,
    journal: Journal,
    *,
    budget: PrivacyBudget = ONE_RELEASE,
    version: int = 3,
) -> Teacher:
    privacy = Privacy(budget, journal)
    settings = TeacherSettings()
    return Teacher(
        classifier,
        data,
        model_version=version,
        settings=settings,
        cache=journal.statistics(),
        privacy=privacy,
    )


def test_with_a_budget_prototypes_take_the_place_of_recipes(
    classifier: Classifier, data: LabelledData, journal: Journal
) -> None:
    """Its offer says what privacy they have, the ledger what was spent; the model is in none of it."""
    offer, chunks = private_teacher(classifier, data, journal).teach(TEACH)
    assert (offer.classes, offer.epsilon, offer.delta) == ((B, A), 2.0, 1e-6)
    for chunk in chunks:
        direction = decode_prototype(chunk.data, numbers=64).direction
        assert 0 < np.linalg.norm(direction) < 1.5
    assert {name: epsilon_of(mus[0], 1e-6) for name, mus in journal.spent().items()} == {
        A: pytest.approx(2.0),
        B: pytest.approx(2.0),
    }


def test_the_same_is_released_once(classifier: Classifier, data: LabelledData, journal: Journal) -> None:
    """To whomever, after a restart, and whatever the model has become meanwhile."""
    first = private_teacher(classifier, data, journal).teach(TEACH)
    again = private_teacher(classifier, data, journal, version=8).teach(replace(TEACH, seed=9))
    assert [chunk.data for chunk in again[1]] == [chunk.data for chunk in first[1]]
    assert {name: len(mus) for name, mus in journal.spent().items()} == {A: 1, B: 1}


def test_a_class_whose_budget_is_spent_is_left_out(
    classifier: Classifier, data: LabelledData, journal: Journal
) -> None:
    """The others are taught; where none is left, the asker is told that."""
    teacher, larger = private_teacher(classifier, data, journal), replace(TEACH, input_shape=(1, 12, 12))
    teacher.teach(replace(TEACH, classes=(A,)))
    assert teacher.teach(larger)[0].classes == (B,)
    with pytest.raises(BudgetSpentError, match=f"budget of {B}, {A} is spent"):
        teacher.teach(replace(TEACH, input_shape=(1, 10, 10)))
    assert teacher.teach(replace(TEACH, classes=(A,)))[0].classes == (A,)


def test_a_spent_budget_costs_no_work(
    classifier: Classifier, data: LabelledData, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks with one stem after another does not make this node run them over its data in vain."""
    teacher, only = private_teacher(classifier, data, journal), replace(TEACH, classes=(A,))
    teacher.teach(only)
    worked: list[object] = []
    monkeypatch.setattr("qkt_p2p.synthesis.bank.fit_prototype", lambda *args, **_: worked.append(args))
    with pytest.raises(BudgetSpentError):
        teacher.teach(replace(only, input_shape=(1, 12, 12)))
    assert worked == []


def test_new_data_are_released_anew(classifier: Classifier, data: LabelledData, journal: Journal) -> None:
    """The samples that stayed are in both releases: both count."""
    generous = PrivacyBudget(epsilon=8.0, release_epsilon=2.0, delta=1e-6)
    only = replace(TEACH, classes=(A,))
    private_teacher(classifier, data, journal, budget=generous).teach(only)
    fewer = data.select(np.arange(len(data) - 1))
    private_teacher(classifier, fewer, journal, budget=generous).teach(only)
    assert len(journal.spent()[A]) == 1 + (len(fewer.of_class(A)) < len(data.of_class(A)))


@pytest.mark.parametrize("medium", [medium for medium in MEDIA if medium not in RECIPE_MEDIA])
def test_no_medium_goes_round_the_budget(
    classifier: Classifier, data: LabelledData, journal: Journal, medium: str
) -> None:
    """What is made of the model alone cannot carry noise, and is not offered."""
    teacher = private_teacher(classifier, data, journal)
    assert teacher.probe(PROBE).media == RECIPE_MEDIA
    with pytest.raises(PeerRefusedError, match=f"the medium {medium} cannot carry the noise"):
        teacher.teach(replace(TEACH, medium=medium))
    assert journal.spent() == {}
