"""The learning of one query as worker, oracle and bench run it: on real digits, in every medium."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import prod
from statistics import fmean
from typing import Any

import numpy as np
import pytest
import torch
from structlog.testing import capture_logs
from torch import nn

from qkt_bench.peers import OpenLedger
from qkt_p2p.datasets import LabelledData
from qkt_p2p.distillation import ENOUGH_SAMPLES, Response, oracle_responses
from qkt_p2p.errors import PeerError, ProtocolError, UpdateRefusedError
from qkt_p2p.lesson import Lesson, preferred_media
from qkt_p2p.models import Classifier, build_classifier
from qkt_p2p.own_samples import Asker
from qkt_p2p.privacy.accountant import PrivacyBudget
from qkt_p2p.privacy.ledger import Privacy
from qkt_p2p.references import OwnModule
from qkt_p2p.teacher import Teacher, TeacherSettings
from qkt_p2p.types import MEDIA, ClassName, Query, TeachRequest
from qkt_p2p.wire.prototypes import Prototype, encode_prototype
from qkt_p2p.wire.recipes import decode_recipe, encode_recipe
from tests.student.classroom import query
from tests.student.digits import SETTINGS, DigitsNode, accuracies

OWN, FOUR, ONE = "269", ClassName("4"), ClassName("1")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small are slower on several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def me() -> DigitsNode:
    """Who asks."""
    return DigitsNode.trained(OWN, seed=0)


@pytest.fixture(scope="module")
def teachers() -> dict[ClassName, DigitsNode]:
    """Who knows what is asked for."""
    return {FOUR: DigitsNode.trained("40", seed=1), ONE: DigitsNode.trained("17", seed=2)}


def ignore(done: float, total: float, message: str) -> None:
    pass


def answers(
    asker: DigitsNode, teachers: dict[ClassName, DigitsNode], asked: Query, medium: str
) -> list[tuple[str, tuple[ClassName, ...], list[bytes]]]:
    """Return what the teacher of each query class sends, one class of each."""
    made = []
    for name in asked.classes:
        request = TeachRequest(
            asked.query_id,
            medium,
            seed=asker.lesson(asked, medium).own.reading().seed,
            samples_per_class=SETTINGS.samples_per_class,
            classes=(name,),
            input_shape=asker.data.input_shape,
            stem=asker.stem if medium == "features" else b"",
        )
        offer, chunks = teachers[name].teacher.teach(request)
        made.append((f"teacher of {name}", offer.classes, [chunk.data for chunk in chunks]))
    return made


def taught(lesson: Lesson, made: list[tuple[str, tuple[ClassName, ...], list[bytes]]]) -> list[Response]:
    return [lesson.read(source, classes, parts, {}) for source, classes, parts in made]


def with_budgets(teachers: dict[ClassName, DigitsNode], epsilon: float = 8.0) -> dict[ClassName, DigitsNode]:
    """Return the same teachers, each with a privacy budget."""
    privacy = Privacy(PrivacyBudget(epsilon, epsilon, 1e-6), OpenLedger())
    return {
        name: replace(
            node,
            teacher=Teacher(
                node.classifier,
                node.data,
                model_version=1,
                settings=TeacherSettings(),
                cache={},
                privacy=privacy,
            ),
        )
        for name, node in teachers.items()
    }


def of_present_classes(data: LabelledData) -> LabelledData:
    """Return the data in a label space of what there is of it."""
    labels = [data.present.index(data.classes[label]) for label in data.labels]
    return LabelledData(data.inputs, np.array(labels, np.int64), data.present)


def learned(lesson: Lesson, responses: list[Response]) -> Classifier:
    return lesson.phase2(lesson.phase1(responses, ignore), responses, ignore)


def whole(
    asker: DigitsNode, teachers: dict[ClassName, DigitsNode], asked: Query, medium: str, **settings: Any
) -> tuple[Classifier, Any]:
    """Return the student after both phases, and the verdict on it."""
    lesson = asker.lesson(asked, medium, replace(SETTINGS, **settings))
    responses = taught(lesson, answers(asker, teachers, asked, medium))
    student = learned(lesson, responses)
    return student, lesson.validate(student, responses)


def test_who_has_data_of_its_own_classes_alone_learns_again_and_again(
    me: DigitsNode, teachers: dict[ClassName, DigitsNode]
) -> None:
    """A folder of images names no class that was learned from peers; the next query does not ask it to."""
    narrow = DigitsNode.of(*(of_present_classes(data) for data in (me.data, me.holdout)), seed=0)
    first, verdict = whole(narrow, teachers, query(FOUR), "moments")
    assert verdict.accepted, verdict.reason
    later = replace(narrow, classifier=first)
    lesson = later.lesson(query(ONE), "moments")
    responses = taught(lesson, answers(later, teachers, query(FOUR, ONE), "moments"))
    second = learned(lesson, responses)
    verdict = lesson.validate(second, responses)
    assert verdict.accepted, verdict.reason
    assert set(second.trained) == {*OWN, FOUR, ONE}
    assert min(accuracies(second, [FOUR, ONE]).values()) >= 0.8


@pytest.mark.parametrize("medium", ["features", "moments", "inversion", "weights"])
def test_a_class_is_learned_in_every_medium(
    me: DigitsNode, teachers: dict[ClassName, DigitsNode], medium: str
) -> None:
    """On real test digits the class rises from nothing, the others stay, and the gate sees both."""
    before = accuracies(me.classifier, OWN)
    student, verdict = whole(me, teachers, query(FOUR), medium)
    after = accuracies(student, [*OWN, FOUR])
    assert verdict.accepted, verdict.reason
    assert (verdict.changes[FOUR].before, verdict.changes[FOUR].measured_on) == (0.0, "estimate")
    assert after[FOUR] >= 0.85
    assert fmean(after[name] for name in before) >= fmean(before.values()) - 0.06
    assert set(student.trained) == {*me.classifier.trained, FOUR}


@pytest.mark.parametrize("medium", ["features", "moments"])
def test_a_class_is_learned_from_a_noisy_mean(
    me: DigitsNode, teachers: dict[ClassName, DigitsNode], medium: str
) -> None:
    """And the gate does not take samples drawn from so little for real data."""
    student, verdict = whole(me, with_budgets(teachers), query(FOUR), medium)
    assert verdict.accepted, verdict.reason
    assert "what 4 reached is estimated on samples unlike real data, which flatters" in verdict.reason
    found = accuracies(student, (*OWN, FOUR))
    assert found[FOUR] > 0.5, found
    assert min(found.values()) > 0.5, found


def test_a_teacher_that_its_noise_drowns_is_left_out(me: DigitsNode) -> None:
    """What it says is no further from own samples than its noise: it is told so, and that is no offence."""
    lesson = me.lesson(query(FOUR), "moments")
    own = lesson.own.reading().own
    nothing_new = Prototype(own.samples.mean(0) / np.float32(own.length), noise=0.1)
    with pytest.raises(PeerError, match=r"what it says of 4 is no more than noise \(0\.00 times") as raised:
        lesson.read("kennel", (FOUR,), [encode_prototype(nothing_new)], {})
    assert not isinstance(raised.value, ProtocolError)


def test_teachers_with_and_without_a_budget_teach_together(
    me: DigitsNode, teachers: dict[ClassName, DigitsNode]
) -> None:
    """Each is read as what it sends, and one that is not lifelike is enough for the gate to say so."""
    mixed = {**teachers, **with_budgets({ONE: teachers[ONE]})}
    student, verdict = whole(me, mixed, query(FOUR, ONE), "moments")
    assert verdict.accepted, verdict.reason
    assert "flatters" in verdict.reason
    assert min(accuracies(student, (FOUR, ONE)).values()) > 0.5


def test_answers_to_noise_teach_too_little(me: DigitsNode, teachers: dict[ClassName, DigitsNode]) -> None:
    """The control for other media: the gate refuses it."""
    _, verdict = whole(me, teachers, query(FOUR), "noise")
    assert not verdict.accepted
    assert "4 reached" in verdict.reason


@pytest.mark.parametrize("medium", ["features", "moments"])
def test_several_classes_are_learned_at_once(
    me: DigitsNode, teachers: dict[ClassName, DigitsNode], medium: str
) -> None:
    """Each from a teacher of its own that knows nothing of the other."""
    student, verdict = whole(me, teachers, query(FOUR, ONE), medium)
    after = accuracies(student, [*OWN, FOUR, ONE])
    assert verdict.accepted, verdict.reason
    assert min(after[FOUR], after[ONE]) >= 0.85
    assert fmean(after[ClassName(name)] for name in OWN) >= 0.94


@pytest.mark.parametrize(
    ("medium", "few"), [("features", 1), ("features", 5), ("features", 20), ("moments", 1)]
)
def test_a_class_of_few_own_samples_is_learned_as_well(
    teachers: dict[ClassName, DigitsNode], medium: str, few: int
) -> None:
    """A handful of own samples neither misleads nor is needed: the result is that of many."""
    node = DigitsNode.trained(OWN, seed=0, few={FOUR: few})
    before = accuracies(node.classifier, [*OWN, FOUR])
    student, verdict = whole(node, teachers, query(FOUR), medium)
    after = accuracies(student, [*OWN, FOUR])
    assert verdict.accepted, verdict.reason
    assert after[FOUR] >= max(0.9, before[FOUR] - 0.03)
    assert few > 1 or after[FOUR] > before[FOUR] + 0.1
    assert fmean(after[ClassName(name)] for name in OWN) >= 0.94


@pytest.mark.parametrize("medium", ["features", "moments"])
def test_a_light_query_trains_less(
    me: DigitsNode, teachers: dict[ClassName, DigitsNode], medium: str
) -> None:
    """Half of the steps over the last block and the head still learn the class."""
    steps: list[float] = []
    asked = query(FOUR, light=True)
    lesson = me.lesson(asked, medium, replace(SETTINGS, phase1_steps=300, phase2_steps=150))
    responses = taught(lesson, answers(me, teachers, asked, medium))
    after1 = lesson.phase1(responses, lambda done, total, message: steps.append(total))
    after2 = lesson.phase2(after1, responses, lambda done, total, message: steps.append(total))
    assert set(steps) == {150, 50}
    first, last = me.classifier.backbone
    assert same(after1.backbone[0], first)
    assert not same(after1.backbone[1], last)
    assert accuracies(after2, [*OWN, FOUR])[FOUR] >= 0.85
    assert lesson.validate(after2, responses).accepted


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(first, second) for first, second in pairs)


@pytest.mark.parametrize("medium", ["features", "moments"])
def test_every_step_follows_from_the_querys_seed(
    me: DigitsNode, teachers: dict[ClassName, DigitsNode], medium: str
) -> None:
    """Another process gets the same student and verdict, to the bit; another seed does not."""
    runs = [
        whole(me, teachers, query(FOUR, seed=seed), medium, phase1_steps=10, phase2_steps=10)
        for seed in (5, 5, 6)
    ]
    (one, verdict), (two, again), (other, _) = runs
    assert same(one, two)
    assert verdict == again
    assert not same(one, other)


def test_the_model_before_stays_as_it_was(me: DigitsNode, teachers: dict[ClassName, DigitsNode]) -> None:
    """A refused update leaves nothing behind, in the model nor in its mode."""
    before = {name: tensor.clone() for name, tensor in me.classifier.state_dict().items()}
    whole(me, teachers, query(FOUR), "features", phase1_steps=5, phase2_steps=5)
    assert all(torch.equal(before[name], tensor) for name, tensor in me.classifier.state_dict().items())
    assert not me.classifier.training


def test_training_ends_early_where_the_loss_is_small_enough(
    me: DigitsNode, teachers: dict[ClassName, DigitsNode]
) -> None:
    """What is left to learn is noise; a limit that is far off ends it at once."""
    seen: list[tuple[float, float]] = []
    lesson = me.lesson(query(FOUR), "moments", replace(SETTINGS, enough_loss=100.0))
    responses = taught(lesson, answers(me, teachers, query(FOUR), "moments"))
    lesson.phase1(responses, lambda done, total, message: seen.append((done, total)))
    assert seen == [(0, 100), (100, 100)]


def test_a_medium_that_there_is_none_of_is_refused(me: DigitsNode) -> None:
    """Its name may come from a stranger, so little of it is quoted."""
    with pytest.raises(ProtocolError, match="there is no medium 'telepathy") as caught:
        me.lesson(query(FOUR), "telepathy" * 100)
    assert len(caught.value.message) < 80


@pytest.mark.parametrize("medium", ["features", "moments", "inversion", "weights", "noise"])
def test_what_is_not_usable_is_a_protocol_error(me: DigitsNode, medium: str) -> None:
    """In each medium, whatever a teacher sends in place of an answer."""
    lesson = me.lesson(query(FOUR), medium)
    for parts in ([b""], [bytes(64)], [b"x" * 3000, b"y"]):
        with pytest.raises(ProtocolError):
            lesson.read("stranger", (FOUR,), parts, {})


def test_own_classes_are_drawn_like_those_of_teachers(
    me: DigitsNode, teachers: dict[ClassName, DigitsNode]
) -> None:
    """A response of its own goes with those of the teachers; a tenth of each class is held out."""
    lesson = me.lesson(query(FOUR), "moments")
    rest, held = lesson.split(taught(lesson, answers(me, teachers, query(FOUR), "moments")))
    assert [(each.source, each.classes) for each in rest] == [
        ("teacher of 4", (FOUR,)),
        ("own", tuple(map(ClassName, OWN))),
    ]
    assert [len(each) for each in rest] == [90, 270]
    assert [len(each) for each in held] == [10, 30]


def test_own_classes_of_which_there_is_too_little_are_not_drawn(me: DigitsNode) -> None:
    """Five samples make no recipe; without any class there is no response of its own."""
    data = me.data
    scarce = [np.flatnonzero(data.labels == data.classes.index(ClassName(name)))[:5] for name in "29"]
    plenty = np.flatnonzero(data.labels == data.classes.index(ClassName("6")))
    for chosen, own in ((np.concatenate([*scarce, plenty]), [("6",)]), (np.concatenate(scarce), [])):
        few = data.select(chosen)
        teacher = Teacher(me.classifier, few, model_version=1, settings=TeacherSettings(), cache={})
        lesson = Lesson(Asker(me.classifier, few, me.holdout, teacher, b""), query(FOUR), "moments", SETTINGS)
        assert [each.classes for each in lesson.split([])[0]] == own


def test_what_nothing_would_measure_is_refused_before_phase_1(
    me: DigitsNode, teachers: dict[ClassName, DigitsNode]
) -> None:
    """Two samples of each own class, none held out: by heart they stay, and tell nothing of the others."""
    chosen = np.concatenate(
        [np.flatnonzero(me.data.labels == label)[:2] for label in np.unique(me.data.labels)]
    )
    few = DigitsNode.of(me.data.select(chosen), me.holdout.select(np.empty(0, np.int64)), seed=0)
    steps: list[str] = []
    asked = query(FOUR)
    for forced in (False, True):
        lesson = few.lesson(replace(asked, force=forced), "moments", replace(SETTINGS, phase1_steps=200))
        responses = taught(lesson, answers(few, teachers, asked, "moments"))
        if forced:
            verdict = lesson.validate(learned(lesson, responses), responses)
            assert (verdict.accepted, {*verdict.changes}) == (True, {FOUR})
            assert verdict.reason.startswith("learned; no sample of 2, 6, 9 is held out")
        else:
            with pytest.raises(UpdateRefusedError, match="no sample of 2, 6, 9 is held out") as caught:
                lesson.phase1(responses, lambda done, total, message: steps.append(message))
            assert "--force" in caught.value.fix
    assert steps == []


def test_own_samples_are_made_once(me: DigitsNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both phases and the gate see the same."""
    lesson = me.lesson(query(FOUR), "moments")
    first = lesson.split([])

    def never(*_: object) -> None:
        raise AssertionError("own samples were made again")

    monkeypatch.setattr(Teacher, "teach", never)
    assert np.array_equal(lesson.split([])[0][0].inputs, first[0][0].inputs)


@pytest.mark.parametrize(
    ("medium", "reason"), [("inversion", "batch normalization"), ("weights", "does not travel")]
)
def test_a_model_that_makes_no_own_samples_learns_without(
    me: DigitsNode, teachers: dict[ClassName, DigitsNode], medium: str, reason: str
) -> None:
    """What it cannot do as a teacher does not keep it from learning."""
    module = OwnModule(f"{__name__}:plain_layers", "3")
    model = build_classifier(
        module, input_shape=(1, 8, 8), classes=me.data.classes, trained=me.data.present, seed=0
    )
    teacher = Teacher(model.eval(), me.data, model_version=1, settings=TeacherSettings(), cache={})
    plain = DigitsNode(me.data, me.holdout, model, teacher)
    lesson = plain.lesson(query(FOUR), medium, replace(SETTINGS, phase1_steps=1))
    responses = taught(lesson, answers(me, teachers, query(FOUR), medium))
    with capture_logs() as logs:
        student = lesson.phase1(responses, ignore)
    assert FOUR in student.trained
    (entry,) = logs
    assert (entry["event"], entry["medium"]) == ("own_samples_left_out", medium)
    assert reason in entry["reason"]


def plain_layers(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, classes))


def test_an_experiment_brings_samples_of_own_classes(me: DigitsNode) -> None:
    """They stand where synthetic ones do, as features where the lesson is of features."""
    real = oracle_responses({"me": me.data}, [ClassName("2")])
    asker = Asker(me.classifier, me.data, me.holdout, me.teacher, me.stem)
    lesson = Lesson(asker, query(FOUR), "features", SETTINGS, own=real)
    ((rest,), (held,)) = lesson.split([])
    assert (rest.source, rest.classes) == (real[0].source, real[0].classes)
    assert len(rest) + len(held) == len(real[0])
    assert rest.inputs.shape[1:] == me.classifier.feature_shape(me.classifier.cut)


def test_memory_bounds_what_is_drawn(
    me: DigitsNode, teachers: dict[ClassName, DigitsNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of large samples fewer are drawn than were asked for, in each medium, from the same answers."""
    monkeypatch.setattr("qkt_p2p.own_samples.MAX_DRAWN_NUMBERS", 16 * 64 * 7)
    for medium in ("moments", "noise", "weights"):
        lesson = me.lesson(query(FOUR), medium)
        (response,) = taught(lesson, answers(me, teachers, query(FOUR), medium))
        assert len(response) == 7


def test_many_classes_and_teachers_share_the_memory_of_one_query(
    me: DigitsNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is learned from fits, however many teach; it is the first part of what each sent."""
    most = 16 * 64 * 30
    monkeypatch.setattr("qkt_p2p.own_samples.MAX_DRAWN_NUMBERS", most)
    lesson = me.lesson(query(FOUR), "moments")
    everything = all_from(me.teacher, me, "moments")
    taught = [lesson.read(f"teacher {number}", *everything, {}) for number in range(8)]
    shown, held = lesson.split(taught)
    assert sum(response.inputs.size for response in (*shown, *held)) <= most
    # Three classes of eight teachers, and three of its own.
    assert {len(one) + len(other) for one, other in zip(shown, held, strict=True)} == {3 * (16 * 30 // 27)}
    (few,), (none,) = lesson.split(taught[:1])[0][:1], lesson.split(taught[:1])[1][1:]
    assert len(few) == 3 * 27
    assert len(none) == 3 * 3


def test_real_samples_enter_where_synthetic_ones_do(me: DigitsNode) -> None:
    """For the oracle: inputs become features behind the stem, or stay what they are."""
    (real,) = oracle_responses({"x": me.data}, [ClassName("2")])
    features = me.lesson(query(FOUR), "features").own.behind_stem(real)
    with torch.no_grad():
        expected = me.classifier.stem(1)(torch.from_numpy(real.inputs)).numpy()
    assert np.allclose(features.inputs, expected, atol=1e-5)
    assert np.array_equal(features.targets, real.targets)
    unchanged = me.lesson(query(FOUR), "moments").own.behind_stem(real)
    assert np.array_equal(unchanged.inputs, real.inputs)


@pytest.fixture(scope="module")
def signed() -> DigitsNode:
    """A node whose own module has features on both sides of 0."""
    node = DigitsNode.trained(OWN, seed=0)
    module = OwnModule(f"{__name__}:layers", "5")
    model = build_classifier(
        module, input_shape=(1, 8, 8), classes=node.data.classes, trained=node.data.present, seed=0
    )
    model(torch.from_numpy(node.data.inputs))
    teacher = Teacher(model.eval(), node.data, model_version=1, settings=TeacherSettings(), cache={})
    return DigitsNode(node.data, node.holdout, model, teacher)


def layers(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 16),
        nn.BatchNorm1d(16),
        nn.Tanh(),
        nn.Linear(16, 16),
        nn.Linear(16, classes),
    )


def test_features_are_drawn_on_the_side_where_the_stem_makes_them(
    me: DigitsNode, signed: DigitsNode, teachers: dict[ClassName, DigitsNode]
) -> None:
    """None below 0 where the stem ends in a rectifier, on both sides where it does not."""
    for node, rectified in ((me, True), (signed, False)):
        lesson = node.lesson(query(FOUR), "features")
        (response,) = taught(lesson, answers(node, teachers, query(FOUR), "features"))
        assert (response.inputs.min() >= 0) is np.bool_(rectified)
        assert response.inputs.shape == (100, *node.classifier.feature_shape(node.classifier.cut))


def test_an_own_module_learns_by_features_too(
    signed: DigitsNode, teachers: dict[ClassName, DigitsNode]
) -> None:
    """The cut, the stem and the rest are its own."""
    student, _ = whole(signed, teachers, query(FOUR), "features", phase1_steps=20, phase2_steps=5)
    assert FOUR in student.trained
    assert same(student.backbone[:4], signed.classifier.backbone[:4])


def test_moments_come_first_where_the_asker_recognizes_its_own(me: DigitsNode) -> None:
    """Digits are described well by their moments; a model that knows nothing of them sees no such thing."""
    assert preferred_media(me.asker(), SETTINGS) == (
        "moments",
        *(name for name in MEDIA if name != "moments"),
    )
    random = build_classifier(
        "mlp", input_shape=me.data.input_shape, classes=me.data.classes, trained=me.data.present, seed=5
    )
    assert preferred_media(replace(me.asker(), before=random.eval()), SETTINGS) == MEDIA


def knowing_one_class_well(me: DigitsNode) -> Asker:
    """Return `me` as an asker with a handful of samples of all classes but one."""
    labels = np.array(me.data.labels)
    twos = labels == me.data.classes.index("2")
    some = np.flatnonzero(twos | (np.cumsum(~twos) <= ENOUGH_SAMPLES // 2))
    return replace(me.asker(me.stem), train=me.data.select(some))


def test_who_knows_one_class_well_does_not_prefer_moments(me: DigitsNode) -> None:
    """Its model takes whatever it sees for that class: that it recognizes its own moments says nothing."""
    assert preferred_media(knowing_one_class_well(me), SETTINGS) == MEDIA


def liar_like(me: DigitsNode) -> Teacher:
    """Return a teacher with the model and the data of `me`, whose labels are wrong."""
    data = me.data
    turned = {"2": "6", "6": "9", "9": "2"}
    labels = np.array([data.classes.index(ClassName(turned[data.classes[label]])) for label in data.labels])
    return Teacher(
        me.classifier,
        LabelledData(data.inputs, labels, data.classes),
        model_version=1,
        settings=TeacherSettings(),
        cache={},
    )


def all_from(
    teacher: Teacher, me: DigitsNode, medium: str, *, classes: int = 3
) -> tuple[tuple[ClassName, ...], list[bytes]]:
    """Return what a teacher sends `me` of the first classes that `me` knows, by default of all."""
    request = TeachRequest(
        query(FOUR).query_id,
        medium,
        seed=1,
        samples_per_class=SETTINGS.samples_per_class,
        classes=me.data.present[:classes],
        input_shape=me.data.input_shape,
        stem=me.stem if medium == "features" else b"",
    )
    offer, chunks = teacher.teach(request)
    return offer.classes, [chunk.data for chunk in chunks]


@pytest.mark.parametrize("medium", ["features", "moments"])
def test_a_teacher_whose_labels_are_wrong_is_left_out(me: DigitsNode, medium: str) -> None:
    """Of classes that both know its samples look like others; that is no offence, but nothing is learned."""
    lesson = me.lesson(query(FOUR), medium)
    with pytest.raises(PeerError, match="disagrees with this node's model") as raised:
        lesson.read("liar", *all_from(liar_like(me), me, medium), {})
    assert not isinstance(raised.value, ProtocolError)
    lesson.read("honest", *all_from(me.teacher, me, medium), {})


def far_away(me: DigitsNode, parts: Sequence[bytes], times: float) -> list[bytes]:
    """Return recipes of which the Gaussians lie so many times as far from everything, within every cap."""
    classes, numbers = me.data.present, prod(me.classifier.feature_shape(me.classifier.cut))
    recipes = [decode_recipe(part, numbers=numbers, classes=classes) for part in parts]
    return [encode_recipe(replace(recipe, mean=recipe.mean * times)) for recipe in recipes]


@pytest.mark.parametrize("times", [100, 1e6])
def test_a_teacher_of_absurd_features_is_left_out_by_name(me: DigitsNode, times: float) -> None:
    """Whatever the asker knows of the classes: one such sample beside real ones would ruin the query."""
    asker = knowing_one_class_well(me)
    lesson = Lesson(asker, query(FOUR), "features", SETTINGS)
    classes, parts = all_from(me.teacher, me, "features")
    with pytest.raises(ProtocolError, match=f"the recipe of {classes[0]} makes numbers of up to .* believed"):
        lesson.read("liar", classes, far_away(me, parts, times), {})
    lesson.read("honest", classes, far_away(me, parts, 2), {})


def test_who_knows_one_class_well_is_no_judge_of_labels(me: DigitsNode) -> None:
    """What looks like a wrong label may be the leaning of its own model."""
    lesson = Lesson(knowing_one_class_well(me), query(FOUR), "features", SETTINGS)
    response = lesson.read("teacher", *all_from(liar_like(me), me, "features"), {})
    assert lesson.judge.recognized(response) < 1 / 3


def test_by_one_class_that_both_know_nobody_is_judged(me: DigitsNode) -> None:
    """A model may see less of a class than chance in honest samples; two classes or more tell."""
    lesson = me.lesson(query(FOUR), "features")
    response = lesson.read("teacher", *all_from(liar_like(me), me, "features", classes=1), {})
    assert lesson.judge.recognized(response) < 1 / 3
    with pytest.raises(PeerError, match="disagrees with this node's model"):
        lesson.read("teacher", *all_from(liar_like(me), me, "features", classes=2), {})


def test_samples_of_its_own_classes_may_be_brought_along(me: DigitsNode) -> None:
    """The oracle learns from real samples alone."""
    real = oracle_responses({"me": me.data}, me.data.present)
    lesson = Lesson(me.asker(me.stem), query(FOUR), "features", SETTINGS, own=real)
    (own,) = lesson.own.responses()
    assert len(own) == len(me.data)
    assert own.inputs.shape[1:] == me.classifier.feature_shape(me.classifier.cut)
