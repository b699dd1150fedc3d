"""The validation gate, on classifiers whose answers are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from qkt_p2p.datasets import LabelledData
from qkt_p2p.distillation import (
    ClassChange,
    LearningSettings,
    Response,
    Verdict,
    hold_back,
    validate,
)
from qkt_p2p.models import Classifier, build_classifier
from qkt_p2p.types import ClassName

A, B, Q = (ClassName(name) for name in "abq")
INPUTS = np.eye(4, dtype=np.float32).reshape(4, 1, 2, 2)


def reader(answers: list[int], trained: tuple[ClassName, ...]) -> Classifier:
    """Return a classifier that answers class answers[i] for the i-th of INPUTS."""
    classifier = build_classifier("mlp", input_shape=(1, 2, 2), classes=(A, B, Q), trained=trained, seed=0)
    head = torch.nn.Linear(4, 3)
    with torch.no_grad():
        head.weight.copy_(torch.eye(3)[answers].T)
        head.bias.zero_()
    classifier.backbone, classifier.head = torch.nn.Sequential(torch.nn.Flatten()), head
    return classifier.eval()


OWN = LabelledData(INPUTS[:2], np.array([0, 1]), (A, B, Q))
TAUGHT = [Response("x", (Q,), INPUTS[2:], np.ones((2, 1), np.float32), {})]
BEFORE = reader([0, 1, 0, 1], (A, B))


@pytest.mark.parametrize(
    ("answers", "accepted", "reason"),
    [
        ([0, 1, 2, 2], True, "nothing forgotten"),
        ([0, 1, 0, 0], False, "q reached 0%"),
        ([0, 0, 2, 2], False, "lost 50.0 ± 0.0 points"),
        ([2, 2, 2, 2], False, "lost 100.0 ± 0.0 points"),
    ],
)
def test_the_gate_refuses_what_did_not_learn_or_forgot(
    answers: list[int], accepted: bool, reason: str
) -> None:
    """A query class below its mark or own classes far below theirs end the update."""
    after = reader(answers, (A, B, Q))
    verdict = validate(
        BEFORE, after, own_holdout=OWN, responses_holdout=TAUGHT, query=[Q], settings=LearningSettings()
    )
    assert verdict.accepted is accepted
    assert reason in verdict.reason
    assert verdict.changes[A].measured_on == "holdout"
    assert verdict.changes[Q].measured_on == "estimate"
    assert verdict.changes[Q].before == 0
    assert verdict.changes[Q].after == answers[2:].count(2) / 2


@pytest.mark.parametrize(("lifelike", "real"), [(True, False), (False, False), (False, True)])
def test_an_acceptance_says_where_its_estimate_flatters(*, lifelike: bool, real: bool) -> None:
    """Samples that do not look like data are easily told apart; real ones of the class leave no doubt."""
    own = LabelledData(INPUTS[[0, 1] + [2, 3] * 5], np.array([0, 1] + [2] * 10), (A, B, Q)) if real else OWN
    verdict = validate(
        BEFORE,
        reader([0, 1, 2, 2], (A, B, Q)),
        own_holdout=own,
        responses_holdout=TAUGHT,
        query=[Q],
        settings=LearningSettings(lifelike=lifelike),
    )
    flatters = "; what q reached is estimated on samples unlike real data, which flatters"
    doubtful = not lifelike and not real
    assert verdict.accepted
    assert verdict.reason == "learned, and nothing forgotten" + (flatters if doubtful else "")


def test_a_query_class_in_the_own_holdout_is_measured_there() -> None:
    """Real data, where there is some, outranks the estimate."""
    own = LabelledData(INPUTS, np.array([0, 1, 2, 2]), (A, B, Q))
    after = reader([0, 1, 2, 2], (A, B, Q))
    verdict = validate(
        BEFORE, after, own_holdout=own, responses_holdout=[], query=[Q], settings=LearningSettings()
    )
    assert verdict.accepted
    assert verdict.changes[Q].measured_on == "holdout"


@pytest.mark.parametrize(("held", "measured_on"), [(9, "estimate"), (10, "holdout")])
def test_a_handful_of_a_query_class_does_not_decide(held: int, measured_on: str) -> None:
    """The new model misses every one of the few held-out samples, and knows the synthetic ones."""
    inputs = np.concatenate([INPUTS[:2], np.repeat(INPUTS[:1], held, axis=0)])
    own = LabelledData(inputs, np.array([0, 1, *[2] * held]), (A, B, Q))
    after = reader([0, 1, 2, 2], (A, B, Q))
    verdict = validate(
        BEFORE, after, own_holdout=own, responses_holdout=TAUGHT, query=[Q], settings=LearningSettings()
    )
    assert verdict.changes[Q].measured_on == measured_on
    assert verdict.accepted is (measured_on == "estimate")


def test_features_are_judged_behind_the_cut() -> None:
    """Held-out samples that are features enter a model where the stem ends; own data enter in front."""
    after = reader([0, 1, 2, 2], (A, B, Q))
    features = replace(TAUGHT[0], inputs=INPUTS[2:].reshape(2, 4))
    settings = replace(LearningSettings(), cut=1)
    verdict = validate(
        BEFORE, after, own_holdout=OWN, responses_holdout=[features], query=[Q], settings=settings
    )
    assert verdict.accepted
    assert verdict.changes[Q] == ClassChange(0.0, 1.0, "estimate", 2)


def test_a_class_learned_earlier_is_estimated_too() -> None:
    """Forgetting what peers taught counts like forgetting what the own data holds."""
    before, after = reader([0, 1, 0, 1], (A, B)), reader([0, 2, 2, 2], (A, B, Q))
    own = OWN.select(np.array([0]))
    taught = [*TAUGHT, Response("x", (B,), INPUTS[1:2], np.ones((1, 1), np.float32), {})]
    verdict = validate(
        before, after, own_holdout=own, responses_holdout=taught, query=[Q], settings=LearningSettings()
    )
    assert verdict.changes[B] == ClassChange(1.0, 0.0, "estimate", 1)
    assert "lost 50.0 ± 0.0 points" in verdict.reason


def test_nothing_to_measure_a_query_class_on_is_a_refusal() -> None:
    """Without a held-out sample the class counts as not learned."""
    after, settings = reader([0, 1, 2, 2], (A, B, Q)), LearningSettings()
    refused = validate(BEFORE, after, own_holdout=OWN, responses_holdout=[], query=[Q], settings=settings)
    assert not refused.accepted
    assert "q reached 0%" in refused.reason


@pytest.mark.parametrize(("held", "named"), [([], "a, b"), ([0], "b")])
def test_own_classes_that_nothing_measures_are_named(held: list[int], named: str) -> None:
    """Where that is all of them it is refused, unless the owner takes the loss. Synthetic samples will do."""
    after, own = reader([0, 1, 2, 2], (A, B, Q)), OWN.select(np.array(held, np.int64))
    wanted = f"no sample of {named} is held out, so nothing tells what is forgotten of it"

    def verdict(taught: list[Response], *, unseen: bool = False) -> Verdict:
        return validate(
            BEFORE,
            after,
            own_holdout=own,
            responses_holdout=taught,
            query=[Q],
            settings=LearningSettings(),
            unseen=unseen,
        )

    refused = (False, wanted), (True, f"learned; {wanted}")
    assert (verdict(TAUGHT).accepted, verdict(TAUGHT).reason) == refused[bool(held)]
    forced = verdict(TAUGHT, unseen=True)
    assert (forced.accepted, forced.reason) == (True, f"learned; {wanted}")
    assert {*forced.changes} == {Q, *own.present}
    synthetic = Response("own", (A, B), INPUTS[:2], np.eye(2, dtype=np.float32), {})
    assert verdict([*TAUGHT, synthetic]).reason == "learned, and nothing forgotten"
    without = Response("own", (A, B), INPUTS[:0], np.ones((0, 2), np.float32), {})
    assert verdict([*TAUGHT, without]) == verdict(TAUGHT)


def test_classes_that_the_own_data_does_not_name_are_held_against_nothing() -> None:
    """A class learned from peers need not stand in the label space of the node's own data."""
    own = LabelledData(INPUTS[:1], np.array([0]), (A,))
    after = reader([0, 1, 2, 2], (A, B, Q))
    assert torch.equal(hold_back(after, BEFORE, own, [Q], LearningSettings()).head.bias, after.head.bias)


class Viewing(torch.nn.Module):
    """Flattens as many modules do, which no empty batch survives."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.view(inputs.shape[0], -1)


def test_where_nothing_is_held_out_nothing_is_held_back() -> None:
    """With [data] holdout = 0 no model is asked about no samples."""
    after = reader([0, 1, 2, 2], (A, B, Q))
    after.backbone = torch.nn.Sequential(Viewing())
    held = hold_back(after, BEFORE, OWN.restrict([], seed=0), [Q], LearningSettings())
    assert torch.equal(held.head.bias, after.head.bias)


def test_a_model_that_is_not_finite_is_refused() -> None:
    """NaN in any parameter ends the update, whatever the accuracies."""
    after = reader([0, 1, 2, 2], (A, B, Q))
    with torch.no_grad():
        after.head.bias[0] = torch.nan
    settings = replace(LearningSettings(), least_query_accuracy=0.0, most_own_loss=1.0)
    verdict = validate(BEFORE, after, own_holdout=OWN, responses_holdout=TAUGHT, query=[Q], settings=settings)
    assert not verdict.accepted
    assert verdict.reason == "the new model holds NaN or infinite numbers in head.bias"


@pytest.mark.parametrize(("per_class", "accepted"), [(5, True), (60, False)])
def test_a_loss_that_a_few_samples_could_show_by_chance_is_no_reason(per_class: int, accepted: bool) -> None:
    """A fifth of one class lost is chance in five samples, and certain in sixty."""
    inputs = np.repeat(INPUTS[[0, 1]], per_class, axis=0)
    labels = np.repeat([0, 1], per_class)
    # The last fifth of class b looks like the fourth input, which the new model no longer gives to b.
    inputs[-per_class // 5 :] = INPUTS[3]
    own = LabelledData(inputs, labels, (A, B, Q))
    after = reader([0, 1, 2, 2], (A, B, Q))
    settings = replace(LearningSettings(), most_own_loss=0.03)
    verdict = validate(BEFORE, after, own_holdout=own, responses_holdout=TAUGHT, query=[Q], settings=settings)
    assert verdict.changes[B].before - verdict.changes[B].after == pytest.approx(0.2)
    assert verdict.accepted is accepted


@pytest.mark.parametrize(("bias", "held"), [(0.5, 0.0), (1.5, 0.5), (4.5, 3.5), (9.0, 0.0)])
def test_the_query_is_held_back_as_far_as_own_classes_need(bias: float, held: float) -> None:
    """No more than that, and not at all where the most does not suffice: then the gate refuses."""
    after = reader([0, 1, 2, 2], (A, B, Q))
    with torch.no_grad():
        after.head.bias[2] += bias
    balanced = hold_back(after, BEFORE, OWN, [Q], LearningSettings())
    assert after.head.bias[2].item() == bias
    assert balanced.head.bias[2].item() == pytest.approx(bias - held, abs=0.11)
    lost = validate(
        BEFORE, balanced, own_holdout=OWN, responses_holdout=TAUGHT, query=[Q], settings=LearningSettings()
    )
    assert lost.accepted is (bias < 9)


def test_nothing_is_held_back_without_own_data_to_tell() -> None:
    """A student that has no held-out sample of its own classes stays as it is."""
    after = reader([0, 1, 2, 2], (A, B, Q))
    empty = OWN.select(np.empty(0, np.int64))
    assert torch.equal(hold_back(after, BEFORE, empty, [Q], LearningSettings()).head.bias, after.head.bias)
