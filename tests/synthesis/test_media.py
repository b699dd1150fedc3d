"""Every medium, from a teacher's holdings to the samples that an asker has in the end."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf, prod
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save
from torch import nn

from qkt_p2p.datasets import LabelledData
from qkt_p2p.datasets.adapt import adapt_inputs
from qkt_p2p.errors import CancelledError, PeerError, PeerRefusedError, ProtocolError
from qkt_p2p.limits import MAX_CHUNK_BYTES
from qkt_p2p.masking.probes import Probes
from qkt_p2p.models import Classifier, build_classifier, classifier_to_bytes, export_stem
from qkt_p2p.references import OwnModule
from qkt_p2p.synthesis import Holdings, Medium, Part, Reading, medium_of
from qkt_p2p.synthesis.files import cut_file, joined_file
from qkt_p2p.synthesis.moments import affordable_rank
from qkt_p2p.synthesis.prototypes import Surroundings
from qkt_p2p.synthesis.release import Statistics
from qkt_p2p.types import LIGHT_RANKS, MEDIA, ClassName, QueryId, Shape, TeachRequest
from qkt_p2p.wire.prototypes import Prototype, encode_prototype
from qkt_p2p.wire.recipes import Recipe, decode_recipe, encode_recipe
from qkt_p2p.wire.tensors import SyntheticBatch
from tests.student.digits import DigitsNode

FOUR, ZERO, NINE = (ClassName(name) for name in "409")
GREY, COLOUR = (1, 8, 8), (3, 16, 16)
EACH = 30
OF_STATISTICS = ("features", "moments")
OF_THE_MODEL = ("inversion", "weights", "noise")

every_medium = pytest.mark.parametrize("name", MEDIA)


@dataclass(frozen=True)
class Asker:
    """A model of another shape or of the same one, and its stem."""

    model: Classifier
    stem: bytes

    @classmethod
    def of(cls, shape: Shape) -> Asker:
        model = build_classifier("mlp", input_shape=shape, classes=[NINE], trained=[NINE], seed=3)
        model(torch.rand(64, *shape, generator=torch.Generator().manual_seed(0)))
        return cls(model.eval(), export_stem(model, model.cut))

    def request(self, name: str, **changes: Any) -> TeachRequest:
        stem = self.stem if name == "features" else b""
        shape = self.model.input_shape
        asked = TeachRequest(QueryId("0" * 16), name, 7, EACH, (ZERO, FOUR), shape, stem=stem)
        return replace(asked, **changes)

    def reading(self, name: str, **changes: Any) -> Reading:
        features = name == "features"
        shape = self.model.feature_shape(self.model.cut if features else 0)
        none = np.zeros((0, prod(shape)), np.float32)
        reading = Reading(
            shape,
            0.0,
            inf if features else 1.0,
            EACH,
            1000,
            seed=7,
            own=Surroundings(none, none),
        )
        return replace(reading, **changes)


@pytest.fixture(scope="module")
def teacher() -> DigitsNode:
    return DigitsNode.trained("409", seed=1)


@pytest.fixture(scope="module")
def grey() -> Asker:
    return Asker.of(GREY)


@pytest.fixture(scope="module")
def colour() -> Asker:
    return Asker.of(COLOUR)


def holdings(node: DigitsNode, **changes: Any) -> Holdings:
    return replace(Holdings(node.classifier, node.data, 1, {}, chunk_bytes=1000), **changes)


def medium(name: str) -> Medium:
    found = medium_of(name)
    assert found is not None
    return found


def answered(
    held: Holdings, request: TeachRequest, *, mask: Sequence[ClassName] = (ZERO, FOUR)
) -> list[Part]:
    return medium(request.medium).answer(held, request, mask, lambda *_: None)


def read(
    name: str, parts: Sequence[Part], reading: Reading, *, classes: Sequence[ClassName] = (ZERO, FOUR)
) -> SyntheticBatch:
    return medium(name).read([part.data for part in parts], classes, reading)


@pytest.mark.parametrize("name", OF_STATISTICS)
def test_prototypes_are_read_as_samples_of_their_class(grey: Asker, name: str) -> None:
    """With the label alone as a target; beside a recipe, too, and without one that did not come."""
    numbers = prod(grey.reading(name).shape)
    own = np.random.default_rng(0).random((20, numbers), np.float32)
    reading = grey.reading(name, own=Surroundings(own, own - own.mean(0)))
    prototype = encode_prototype(Prototype(np.full(numbers, 0.1, np.float32), 1e-4))
    found = medium(name).read([prototype, prototype], (ZERO, FOUR), reading)
    assert (len(found), found.lifelike) == (2 * EACH, False)
    assert np.array_equal(found.targets, np.repeat(np.eye(2, dtype=np.float32), EACH, axis=0))
    alone = medium(name).read([b"", prototype], (ZERO, FOUR), reading)
    assert (alone.classes, alone.targets.tolist()) == ((FOUR,), [[1.0]] * EACH)
    drowned = encode_prototype(Prototype(np.full(numbers, 0.1, np.float32), 10.0))
    with pytest.raises(PeerError, match="what it says of 4 is no more than noise") as raised:
        medium(name).read([prototype, drowned], (ZERO, FOUR), reading)
    assert not isinstance(raised.value, ProtocolError)
    other = encode_prototype(Prototype(np.ones(3, np.float32), 1))
    with pytest.raises(ProtocolError, match="shape"):
        medium(name).read([prototype, other], (ZERO, FOUR), reading)


def test_every_medium_of_the_protocol_is_built_in() -> None:
    """Names that can be asked for exist, others do not; only features are behind a stem."""
    assert [medium(name).name for name in MEDIA] == list(MEDIA)
    assert [name for name in MEDIA if medium(name).of_features] == ["features"]
    assert medium_of("telepathy") is None


@every_medium
def test_an_answer_is_read_as_a_batch(teacher: DigitsNode, grey: Asker, name: str) -> None:
    """Samples have the asker's shape and bounds, targets are distributions over the mask, and labels lead."""
    parts = answered(holdings(teacher), grey.request(name))
    batch = read(name, parts, grey.reading(name))
    assert sum(part.samples for part in parts) == len(batch) == 2 * EACH
    assert batch.inputs.shape[1:] == grey.reading(name).shape
    assert batch.inputs.dtype == batch.targets.dtype == np.float32
    assert batch.inputs.min() >= 0
    assert batch.inputs.max() <= grey.reading(name).high
    assert batch.classes == (ZERO, FOUR)
    assert np.allclose(batch.targets.sum(1), 1, atol=1e-5)
    if name != "noise":
        assert np.bincount(batch.targets.argmax(1)).tolist() == [EACH, EACH]
        assert batch.targets.max(1).min() > 0.5


@every_medium
def test_recipes_can_do_without_one_another(teacher: DigitsNode, grey: Asker, name: str) -> None:
    """The class that came is drawn as if both had come; other media are of use whole only."""
    first, *rest = answered(holdings(teacher), grey.request(name))
    part = [b"" for _ in rest]
    if name not in OF_STATISTICS:
        with pytest.raises(ProtocolError):
            medium(name).read([b"", *(each.data for each in rest)], (ZERO, FOUR), grey.reading(name))
        return
    whole = read(name, [first, *rest], grey.reading(name))
    batch = medium(name).read([first.data, *part], (ZERO, FOUR), grey.reading(name))
    assert (batch.classes, len(batch)) == ((ZERO,), EACH)
    assert np.array_equal(batch.inputs, whole.inputs[:EACH])
    assert np.array_equal(batch.targets, np.ones((EACH, 1), np.float32))
    with pytest.raises(ProtocolError, match="no recipe came"):
        medium(name).read([b"", b""], (ZERO, FOUR), grey.reading(name))


@every_medium
def test_a_seed_changes_the_answers_of_seeded_media_alone(
    teacher: DigitsNode, grey: Asker, name: str
) -> None:
    """What does not depend on it is made once for all queries."""
    held = holdings(teacher)
    one, other = (answered(held, grey.request(name, seed=seed)) for seed in (7, 8))
    assert (one != other) == medium(name).seeded


@every_medium
def test_parts_are_of_the_size_that_the_holdings_say(teacher: DigitsNode, grey: Asker, name: str) -> None:
    """But for recipes, which are whole."""
    parts = answered(holdings(teacher, chunk_bytes=1500), grey.request(name))
    if name not in {"features", "moments"}:
        assert max(len(part.data) for part in parts) <= 1800


@every_medium
def test_samples_of_a_medium_are_of_their_class(teacher: DigitsNode, grey: Asker, name: str) -> None:
    """The teacher's model, or the asker's behind its stem, tells the classes apart; noise it cannot tell."""
    batch = read(name, answered(holdings(teacher), grey.request(name)), grey.reading(name))
    if name == "features":
        real = [grey.model.stem(1)(torch.from_numpy(teacher.data.of_class(each))) for each in batch.classes]
        centres = np.stack([features.mean(0).detach().numpy() for features in real])
        found = ((batch.inputs[:, None] - centres) ** 2).sum(2).argmin(1)
    else:
        rows = [teacher.classifier.classes.index(each) for each in batch.classes]
        with torch.no_grad():
            found = teacher.classifier(torch.from_numpy(batch.inputs))[:, rows].argmax(1).numpy()
    agreement = (found == batch.targets.argmax(1)).mean()
    assert agreement >= 0.9


@every_medium
def test_the_same_request_has_the_same_bytes_and_samples(teacher: DigitsNode, grey: Asker, name: str) -> None:
    """A fresh teacher makes the same answer; it is read alike, and otherwise under another seed."""
    first, second = (answered(holdings(teacher), grey.request(name)) for _ in range(2))
    assert first == second
    one, two, other = (read(name, first, grey.reading(name, **changes)) for changes in ({}, {}, {"seed": 8}))
    assert np.array_equal(one.inputs, two.inputs)
    assert np.array_equal(one.targets, two.targets)
    assert np.array_equal(one.inputs, other.inputs) is (name == "inversion")


@every_medium
def test_another_size_and_colour_are_no_obstacle(teacher: DigitsNode, colour: Asker, name: str) -> None:
    """A grey 8x8 teacher teaches an asker of 16x16 colour pixels, in each medium."""
    parts = answered(holdings(teacher), colour.request(name))
    batch = read(name, parts, colour.reading(name))
    assert batch.inputs.shape == (2 * EACH, *colour.reading(name).shape)
    if name == "moments":
        real = adapt_inputs(teacher.data.of_class(ZERO), COLOUR)
        drawn = batch.inputs[batch.targets.argmax(1) == 0]
        assert np.abs(drawn.mean(0) - real.mean(0)).max() < 0.3
        assert np.abs(drawn.mean(0) - real.mean(0)).mean() < 0.06


@every_medium
def test_a_shape_that_is_too_far_off_is_refused(teacher: DigitsNode, grey: Asker, name: str) -> None:
    """Digits of 8x8 pixels are not blown up beyond four times, in any medium; weights travel as they are."""
    stem = Asker.of((1, 64, 64)).stem if name == "features" else b""
    request = grey.request(name, input_shape=(1, 64, 64), stem=stem)
    if name == "weights":
        parts = answered(holdings(teacher), request)
        with pytest.raises(ProtocolError, match="cannot be made inputs"):
            read(name, parts, grey.reading(name, shape=(1, 64, 64)))
        return
    with pytest.raises(PeerRefusedError, match="cannot be made inputs"):
        answered(holdings(teacher), request)


@every_medium
def test_no_more_samples_are_made_than_are_affordable(teacher: DigitsNode, grey: Asker, name: str) -> None:
    """Large inputs leave room for few, however many were asked for or came."""
    parts = answered(holdings(teacher), grey.request(name))
    batch = read(name, parts, grey.reading(name, affordable=4))
    assert len(batch) == 8


def test_inputs_that_came_are_cut_class_by_class(teacher: DigitsNode, grey: Asker) -> None:
    """Of each class the first ones are kept, whichever part they came in."""
    parts = answered(holdings(teacher), grey.request("inversion"))
    assert len(parts) > 1
    whole, cut = (read("inversion", parts, grey.reading("inversion", affordable=n)) for n in (EACH, 25))
    labels = whole.targets.argmax(1)
    kept = np.sort(np.concatenate([np.flatnonzero(labels == label)[:25] for label in (0, 1)]))
    assert np.array_equal(cut.inputs, whole.inputs[kept])
    assert np.array_equal(cut.targets, whole.targets[kept])


def test_more_noise_than_anybody_can_hold_is_never_made(teacher: DigitsNode, grey: Asker) -> None:
    """What a request asks for is checked first: this one would take 126 GB."""
    request = grey.request("noise", input_shape=(3, 512, 512), samples_per_class=20_000)
    with pytest.raises(PeerRefusedError, match="cannot be made inputs"):
        answered(holdings(teacher), request)


def test_too_much_noise_is_refused_with_the_limit(
    teacher: DigitsNode, grey: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of the two sizes is larger counts: probes of 8x8 grey pixels are made for the model, too."""
    monkeypatch.setattr("qkt_p2p.synthesis.noise.MAX_ANSWERED_NUMBERS", 2 * EACH * 64)
    answered(holdings(teacher), grey.request("noise"))
    for changes, found in (
        ({"samples_per_class": EACH + 1}, "62 probes of 64"),
        ({"samples_per_class": EACH + 1, "input_shape": (1, 4, 4)}, "62 probes of 64"),
        ({"input_shape": COLOUR}, "60 probes of 768"),
    ):
        with pytest.raises(ProtocolError, match=f"{found} numbers are too many, allowed are 3840 numbers"):
            answered(holdings(teacher), grey.request("noise", **changes))


def test_noise_is_made_in_steps_that_fit_into_memory(
    teacher: DigitsNode, grey: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answers are those to all of it at once, and only what is kept of it is made to be read."""
    whole = read("noise", answered(holdings(teacher), grey.request("noise")), grey.reading("noise"))
    made: list[int] = []

    def making(probes: Probes, start: int, stop: int, *rest: Any) -> torch.Tensor:
        made.append(stop - start)
        return make(probes, start, stop, *rest)

    make = Probes.made
    monkeypatch.setattr(Probes, "made", making)
    monkeypatch.setattr("qkt_p2p.masking.probes.MAX_DRAWN_NUMBERS", 25 * 64 + 1)
    parts = answered(holdings(teacher), grey.request("noise"))
    batch = read("noise", parts, grey.reading("noise", affordable=4))
    assert made == [25, 25, 10, 8]
    assert np.array_equal(batch.inputs, whole.inputs[:8])
    assert np.allclose(batch.targets, whole.targets[:8], atol=1e-3)


class Untouchable:
    """Stands for private data that nothing may look at."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the data's {name} was looked at")


@pytest.mark.parametrize("name", OF_THE_MODEL)
def test_what_is_made_of_the_model_touches_no_data(teacher: DigitsNode, grey: Asker, name: str) -> None:
    """Nothing of the data can be in an answer that was made without it."""
    cache: dict[str, bytes] = {}
    held = holdings(teacher, data=cast("LabelledData", Untouchable()), cache=cache)
    assert answered(held, grey.request(name)) == answered(holdings(teacher), grey.request(name))
    assert cache == {}


@pytest.mark.parametrize("name", OF_STATISTICS)
def test_what_is_made_of_data_passes_the_release_gate(
    teacher: DigitsNode, grey: Asker, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gate sees all arrays of each class once, and what it withholds is in no answer."""
    shown: list[tuple[ClassName, int]] = []

    def blank(statistics: Statistics, *, class_name: ClassName, samples: int) -> Statistics:
        shown.append((class_name, samples))
        return {name: np.full_like(array, 0.25) for name, array in statistics.items()}

    monkeypatch.setattr("qkt_p2p.synthesis.bank.release", blank)
    parts = answered(holdings(teacher), grey.request(name))
    assert shown == [(each, teacher.data.counts[each]) for each in (ZERO, FOUR)]
    for part in parts:
        with pytest.raises(ProtocolError, match="miss a sum of 1"):
            decode_recipe(part.data, numbers=grey_numbers(grey, name), classes=(ZERO, FOUR))
        arrays = load(part.data)
        # All that is left of any array is one number, for each axis one.
        assert arrays["mean"] * arrays["steps"][0] == pytest.approx(0.25, rel=0.1)
        assert not np.ptp(arrays["residual"])
        assert not np.ptp(arrays["basis"], axis=1).any()


def grey_numbers(grey: Asker, name: str) -> int:
    return int(np.prod(grey.reading(name).shape))


@pytest.mark.parametrize("name", OF_STATISTICS)
def test_statistics_are_kept_for_the_next_asker(
    teacher: DigitsNode, grey: Asker, colour: Asker, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same stem and rank take them from the cache; another stem, rank or model version makes new ones."""
    cache: dict[str, bytes] = {}
    held = holdings(teacher, cache=cache)
    first = answered(held, grey.request(name))
    assert len(cache) == 2

    def never(*_: object, **__: object) -> None:
        raise AssertionError("statistics were made again")

    with monkeypatch.context() as patched:
        patched.setattr("qkt_p2p.synthesis.bank.fit_recipe", never)
        assert answered(held, grey.request(name, seed=99, samples_per_class=5))[0].data == first[0].data
        assert len(answered(held, grey.request(name, classes=(ZERO,)), mask=(ZERO,))) == 1
    answered(held, colour.request(name))
    answered(held, grey.request(name, rank=3))
    answered(replace(held, model_version=2), grey.request(name))
    assert len(cache) == 8


@pytest.mark.parametrize("name", OF_STATISTICS)
def test_a_smaller_rank_takes_fewer_bytes(teacher: DigitsNode, grey: Asker, name: str) -> None:
    """An asker that wants less is sent less, and one that wants more than is usual gets the usual."""
    sizes = [
        sum(len(part.data) for part in answered(holdings(teacher), grey.request(name, rank=rank)))
        for rank in (2, 0, 256)
    ]
    assert sizes[0] < sizes[1] == sizes[2]


def test_a_light_query_takes_half_of_the_bytes(teacher: DigitsNode, grey: Asker) -> None:
    """Where a class has as many directions as are usual, its recipe is shorter by half of them."""
    inputs = np.random.default_rng(0).random((100, *COLOUR), np.float32)
    label = teacher.data.classes.index(FOUR)
    held = holdings(teacher, data=LabelledData(inputs, np.full(100, label), teacher.data.classes))
    model = build_classifier("mlp", input_shape=COLOUR, classes=(FOUR,), trained=(FOUR,), seed=0).eval()
    request = grey.request("moments", input_shape=COLOUR, classes=(FOUR,))
    usual, light = (
        answered(replace(held, classifier=model), replace(request, rank=rank), mask=(FOUR,))
        for rank in (0, LIGHT_RANKS["moments"])
    )
    assert len(light[0].data) < 0.6 * len(usual[0].data)


@pytest.mark.parametrize("name", OF_STATISTICS)
def test_a_class_of_few_samples_is_not_released(teacher: DigitsNode, grey: Asker, name: str) -> None:
    """One look at five samples is too close a look, with whatever stem."""
    few = teacher.data.select(np.flatnonzero(teacher.data.labels == teacher.data.classes.index(FOUR))[:5])
    with pytest.raises(PeerRefusedError, match="5 samples of 4 are fewer than 8"):
        answered(holdings(teacher, data=few), grey.request(name, classes=(FOUR,)), mask=(FOUR,))


def test_features_need_a_stem_that_fits(teacher: DigitsNode, grey: Asker, colour: Asker) -> None:
    """None, one of another shape than the request says, and one that is no graph are each refused."""
    for stem, reason in (
        (b"", "needs the asker's stem"),
        (colour.stem, "takes inputs of"),
        (b"no graph", "graph"),
    ):
        with pytest.raises(ProtocolError, match=reason):
            answered(holdings(teacher), grey.request("features", stem=stem))


def test_inputs_are_adapted_to_a_stem_batch_by_batch(
    teacher: DigitsNode, colour: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nowhere are all of a class's inputs in the asker's size, which may be far larger than their own."""
    adapted: list[int] = []

    def adapt(inputs: np.ndarray, shape: Shape) -> np.ndarray:
        adapted.append(len(inputs))
        return adapt_inputs(inputs, shape)

    monkeypatch.setattr("qkt_p2p.synthesis.features.adapt_inputs", adapt)
    monkeypatch.setattr("qkt_p2p.synthesis.stem_graph.MAX_STEM_BATCH", 20)
    answered(holdings(teacher), colour.request("features"), mask=(FOUR,))
    assert adapted == [20, 20, 8]


def test_a_stems_run_ends_with_its_query(teacher: DigitsNode, grey: Asker) -> None:
    """The report is told while the stem runs, and what it raises ends the run."""

    def cancel(done: float, total: float, message: str) -> None:
        if message == "running the stem":
            raise CancelledError("interrupted")

    with pytest.raises(CancelledError):
        medium("features").answer(holdings(teacher), grey.request("features"), (FOUR,), cancel)


class Plain(nn.Module):
    """A module of an owner's own, without batch normalization."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU())
        self.fc = nn.Linear(8, classes)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.fc(self.body(inputs))
        return logits


def plain(input_shape: Shape, classes: int) -> nn.Module:
    return Plain(classes)


OWN = OwnModule(f"{__name__}:plain", "fc")


@pytest.fixture(scope="module")
def own_model() -> Classifier:
    return build_classifier(OWN, input_shape=GREY, classes=(FOUR, ZERO), trained=(FOUR, ZERO), seed=0).eval()


def test_an_own_module_does_not_travel(teacher: DigitsNode, grey: Asker, own_model: Classifier) -> None:
    """Nobody else could build it, nor should run it."""
    with pytest.raises(PeerRefusedError, match="of its owner's own making"):
        answered(holdings(teacher, classifier=own_model), grey.request("weights"))


def test_inversion_needs_batch_normalization(teacher: DigitsNode, grey: Asker, own_model: Classifier) -> None:
    """Its running statistics are what tells an input from noise; the model is left as it was."""
    with pytest.raises(PeerRefusedError, match="needs a model with batch normalization"):
        answered(holdings(teacher, classifier=own_model), grey.request("inversion"))
    assert not any(module._forward_pre_hooks for module in own_model.modules())


@pytest.mark.parametrize("name", ["features", "moments", "noise"])
def test_an_own_module_teaches_in_the_other_media(
    teacher: DigitsNode, grey: Asker, own_model: Classifier, name: str
) -> None:
    """They ask for answers alone."""
    parts = answered(holdings(teacher, classifier=own_model), grey.request(name))
    assert len(read(name, parts, grey.reading(name))) == 2 * EACH


def test_inversion_ends_with_its_query(teacher: DigitsNode, grey: Asker) -> None:
    """The report is told of every step, and what it raises ends the work."""
    steps: list[float] = []

    def cancel(done: float, total: float, message: str) -> None:
        if "loss" in message:
            steps.append(done)
            if done == 3:
                raise CancelledError("interrupted")

    with pytest.raises(CancelledError):
        medium("inversion").answer(holdings(teacher), grey.request("inversion"), (FOUR,), cancel)
    assert steps == [0, 1, 2, 3]


def test_inversion_is_bounded_and_leaves_the_model_alone(teacher: DigitsNode, grey: Asker) -> None:
    """At most 200 inputs of each class, however many were asked for; no hook and no gradient stays."""
    model = teacher.classifier
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.zero_grad()
    parts = answered(holdings(teacher), grey.request("inversion", samples_per_class=300), mask=(FOUR,))
    assert sum(part.samples for part in parts) == 200
    assert len(parts) > 1
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert not model.training


def test_inverted_inputs_fit_into_memory(
    teacher: DigitsNode, grey: Asker, colour: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All classes together, at the model's size and at the asker's; where not even one of each fits, none."""
    monkeypatch.setattr("qkt_p2p.synthesis.inversion._STEPS", 1)
    for limit, asker, each in ((2 * prod(GREY) * 5, grey, 5), (2 * prod(COLOUR) * 2, colour, 2)):
        monkeypatch.setattr("qkt_p2p.synthesis.inversion.MAX_DRAWN_NUMBERS", limit)
        parts = answered(holdings(teacher), asker.request("inversion"))
        assert sum(part.samples for part in parts) == 2 * each
    monkeypatch.setattr("qkt_p2p.synthesis.inversion.MAX_DRAWN_NUMBERS", 2 * prod(COLOUR) - 1)
    with pytest.raises(PeerRefusedError, match=r"\(3, 16, 16\) of 2 classes are too many"):
        answered(holdings(teacher), colour.request("inversion"))


def test_inversion_for_inputs_that_do_not_fit_is_refused_before_it_begins(
    teacher: DigitsNode, grey: Asker
) -> None:
    """Nothing is made for an asker whose inputs no input can become."""

    def never(done: float, total: float, message: str) -> None:
        raise AssertionError(message)

    request = grey.request("inversion", input_shape=(2, 8, 8))
    with pytest.raises(PeerRefusedError, match="cannot be made inputs of"):
        medium("inversion").answer(holdings(teacher), request, (FOUR,), never)


def test_the_node_may_learn_while_its_model_is_inverted(
    teacher: DigitsNode, grey: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hooks lie on a copy: a student grown from the model meanwhile would take them along and fill them."""
    monkeypatch.setattr("qkt_p2p.synthesis.inversion._STEPS", 2)
    hooks: list[int] = []

    def note(done: float, total: float, message: str) -> None:
        hooks.append(sum(len(module._forward_pre_hooks) for module in teacher.classifier.modules()))

    medium("inversion").answer(holdings(teacher), grey.request("inversion"), (FOUR,), note)
    assert len(hooks) > 1
    assert not any(hooks)


def test_large_inputs_are_inverted_a_few_at_a_time(
    teacher: DigitsNode, grey: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded by the numbers in a batch, whatever a model's inputs are."""
    monkeypatch.setattr("qkt_p2p.synthesis.inversion._BATCH_NUMBERS", 64 * 12)
    monkeypatch.setattr("qkt_p2p.synthesis.inversion._STEPS", 2)
    begun: list[float] = []

    def note(done: float, total: float, message: str) -> None:
        if message == "inverting the model":
            begun.append(done)

    parts = medium("inversion").answer(holdings(teacher), grey.request("inversion"), (FOUR,), note)
    assert begun == [0, 12, 24]
    assert sum(part.samples for part in parts) == EACH


def test_a_recipe_for_each_class_is_wanted(teacher: DigitsNode, grey: Asker) -> None:
    """One too few, one too many, in another order, or of another shape is no answer."""
    first, second = answered(holdings(teacher), grey.request("moments"))
    for parts, reason in (
        ([first], "1 recipes came for 2 classes"),
        ([first, second, second], "3 recipes came for 2 classes"),
        ([second, first], "the recipe of 0 has targets of another class"),
    ):
        with pytest.raises(ProtocolError, match=reason):
            read("moments", parts, grey.reading("moments"))
    with pytest.raises(ProtocolError, match="of shape"):
        read("moments", [first, second], grey.reading("moments", shape=(1, 8, 7)))


@pytest.mark.parametrize("numbers", [1, 12_288, 150_528, 196_608])
def test_the_largest_recipe_fits_into_a_chunk(grey: Asker, numbers: int) -> None:
    """As many axes are kept as there is room for, with eight Gaussians and 1024 classes."""
    rank = affordable_rank(grey.request("moments"), numbers)
    assert 1 <= rank <= 48
    flat, gaussians = np.zeros(numbers, np.float32), np.zeros(8, np.float32)
    recipe = Recipe(
        mean=flat,
        basis=np.zeros((rank, numbers), np.float32),
        residual=flat,
        weights=gaussians,
        means=np.zeros((8, rank), np.float32),
        factors=np.zeros((8, rank, rank), np.float32),
        targets=np.zeros((8, 1024), np.float32),
    )
    assert len(encode_recipe(recipe)) <= MAX_CHUNK_BYTES


def test_samples_that_no_chunk_can_describe_are_refused(grey: Asker) -> None:
    """The teacher says so, instead of sending what its asker must take for misbehaviour."""
    with pytest.raises(PeerRefusedError, match="too large to be described"):
        affordable_rank(grey.request("moments"), 3 * 512 * 512)


def test_a_file_is_cut_and_joined() -> None:
    """The first piece counts for all samples."""
    data = bytes(range(256)) * 5000
    parts = cut_file(data, 12, chunk_bytes=500_000)
    assert [part.samples for part in parts] == [12, 0, 0]
    assert [len(part.data) for part in parts] == [500_000, 500_000, 280_000]
    assert joined_file([part.data for part in parts]) == data


def test_a_file_beyond_its_cap_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it is joined."""
    monkeypatch.setattr("qkt_p2p.synthesis.files.MAX_FILE_BYTES", 10)
    assert joined_file([bytes(5)] * 2) == bytes(10)
    with pytest.raises(ProtocolError, match="takes 11 bytes, allowed are 10"):
        joined_file([bytes(5), bytes(6)])


def test_noise_without_all_targets_is_refused(teacher: DigitsNode, grey: Asker) -> None:
    """A piece that is missing, or targets of other classes, is no answer."""
    (part,) = answered(holdings(teacher), grey.request("noise"))
    with pytest.raises(ProtocolError, match="not safetensors"):
        read("noise", [Part(part.data[:-1], 1)], grey.reading("noise"))
    with pytest.raises(ProtocolError, match="targets of shape"):
        read("noise", [part], grey.reading("noise"), classes=(ZERO,))


def test_many_answers_to_noise_are_one_file(teacher: DigitsNode, grey: Asker) -> None:
    """They may be larger than one chunk."""
    samples = 300
    parts = answered(holdings(teacher), grey.request("noise", samples_per_class=samples))
    assert len(parts) == 3
    reading = grey.reading("noise", samples_per_class=samples, affordable=10)
    assert len(read("noise", parts, reading)) == 20


def changed(model: Classifier, **metadata: str) -> bytes:
    """Return a model file whose description says something else."""
    arrays = load(classifier_to_bytes(model))
    description = json.loads(arrays["description"].tobytes())
    arrays["description"] = np.frombuffer(json.dumps(description | metadata).encode(), np.uint8)
    return bytes(save(arrays))


def spoilt(model: Classifier) -> bytes:
    """Return a model file with a number that is none."""
    arrays = load(classifier_to_bytes(model))
    bias = arrays["head.bias"].copy()
    bias[0] = np.nan
    return bytes(save({**arrays, "head.bias": bias}))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda _: b"", "no model file"),
        (lambda _: b"x" * 1000, "no model file"),
        (lambda model: classifier_to_bytes(model)[:-1], "no model file"),
        (lambda _: save({"x": np.zeros(3)}), "no model file"),
        (lambda model: changed(model, architecture='"cnn"'), "does not hold a cnn"),
        (lambda model: changed(model, architecture='"transformer"'), "no built-in architecture"),
        (lambda model: changed(model, architecture=f'"{OWN.factory}"', head='"fc"'), "no built-in"),
        (lambda model: changed(model, input_shape="[1, 9, 9]"), "expected"),
        (lambda model: changed(model, input_shape="[1, 99999, 99999]"), "takes inputs of"),
        (lambda model: changed(model, classes="7"), "lacks usable metadata"),
        (lambda model: changed(model, classes='["1", "2"]'), "do not fit together"),
        (spoilt, "NaN"),
    ],
)
def test_a_model_file_that_is_not_usable_is_refused(
    teacher: DigitsNode, grey: Asker, damage: Callable[[Classifier], bytes], reason: str
) -> None:
    """Damaged, of another or unknown architecture, of absurd shapes: each is a protocol error."""
    part = Part(damage(teacher.classifier), 1)
    with pytest.raises(ProtocolError, match=reason):
        read("weights", [part], grey.reading("weights"))


def test_a_model_without_the_classes_of_the_offer_is_refused(teacher: DigitsNode, grey: Asker) -> None:
    """It cannot teach what it does not know."""
    parts = answered(holdings(teacher), grey.request("weights"))
    with pytest.raises(ProtocolError, match="does not know cat"):
        read("weights", parts, grey.reading("weights"), classes=(FOUR, ClassName("cat")))


@pytest.mark.parametrize(
    ("buffer", "value", "reason"),
    [
        ("running_var", -1.0, "negative variances in backbone.*running_var"),
        ("running_mean", 3e38, "numbers that are not finite"),
    ],
)
def test_a_model_that_answers_with_no_numbers_is_refused(
    teacher: DigitsNode, grey: Asker, monkeypatch: pytest.MonkeyPatch, buffer: str, value: float, reason: str
) -> None:
    """What it came with is finite, and what would be learned from it is not."""
    monkeypatch.setattr("qkt_p2p.synthesis.inversion._STEPS", 2)
    hostile = copy.deepcopy(teacher.classifier)
    for name, its in hostile.named_buffers():
        if name.endswith(buffer):
            its.fill_(value)
    with pytest.raises(ProtocolError, match=reason):
        read("weights", [Part(classifier_to_bytes(hostile), 1)], grey.reading("weights"))


def test_inverting_a_model_that_came_can_be_given_up(teacher: DigitsNode, grey: Asker) -> None:
    """The asker looks up at each step: all of them take minutes."""
    parts = answered(holdings(teacher), grey.request("weights"))
    steps = 0

    def cancel(done: float, total: float, message: str) -> None:
        nonlocal steps
        steps += "loss" in message
        if steps == 2:
            raise CancelledError("interrupted")

    with pytest.raises(CancelledError):
        read("weights", parts, grey.reading("weights", report=cancel))
    assert steps == 2


def test_a_model_of_far_larger_inputs_is_refused_before_it_is_inverted(
    grey: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of 100 kB that stands for inputs of a megapixel would take all memory."""
    giant = build_classifier("cnn", input_shape=(1, 512, 512), classes=(FOUR,), trained=(FOUR,), seed=0)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("the model was inverted")

    monkeypatch.setattr("qkt_p2p.synthesis.weights.inverted_batch", never)
    with pytest.raises(ProtocolError, match="cannot be made inputs"):
        read("weights", [Part(classifier_to_bytes(giant), 1)], grey.reading("weights"), classes=(FOUR,))
