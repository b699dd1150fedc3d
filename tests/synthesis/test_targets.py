"""Masked soft targets."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qkt_p2p.errors import CancelledError
from qkt_p2p.models import build_classifier
from qkt_p2p.synthesis.targets import LABEL_SHARE, TEMPERATURE, masked_targets, soft_answers
from qkt_p2p.types import ClassName

A, B, C, D = (ClassName(name) for name in "abcd")


def test_masked_targets_mix_the_label_with_the_teachers_answer() -> None:
    """An indifferent teacher halves what the label of two leaves; other classes' shares are cut away."""
    answers = np.array([[0.1, 0.4, 0.4, 0.1]], np.float32)
    targets = masked_targets(answers, np.array([1]), classes=(D, A, B, C), mask=(A, B))
    assert targets[0].tolist() == pytest.approx([0.5 - LABEL_SHARE / 2, 0.5 + LABEL_SHARE / 2])


def test_columns_are_in_the_masks_order() -> None:
    """However the teacher's model orders its classes."""
    answers = np.array([[0.6, 0.3, 0.1]], np.float32)
    targets = masked_targets(answers, np.array([0]), classes=(A, B, C), mask=(C, A))
    rest = 1 - LABEL_SHARE
    assert targets[0].tolist() == pytest.approx([LABEL_SHARE + rest / 7, rest * 6 / 7], abs=1e-6)


def test_the_largest_masked_target_is_the_label() -> None:
    """However sure the teacher is of another class, the class that the input was drawn from leads."""
    answers = (torch.randn(500, 4) * 50).softmax(1).numpy()
    answers[0] = [0, 0, 0, 1]
    labels = np.random.default_rng(0).integers(0, 3, 500)
    targets = masked_targets(answers, labels, classes=(A, B, C, D), mask=(A, B, C))
    assert np.allclose(targets.sum(1), 1)
    assert np.array_equal(targets.argmax(1), labels)
    assert targets.dtype == np.float32


def test_answers_are_softened() -> None:
    """The softmax at temperature 2 over all classes of the model."""
    classifier = build_classifier("mlp", input_shape=(1, 2, 2), classes=(A, B), trained=(A, B), seed=0).eval()
    inputs = np.random.default_rng(0).random((5, 1, 2, 2), np.float32)
    with torch.no_grad():
        expected = (classifier(torch.from_numpy(inputs)) / TEMPERATURE).softmax(1).numpy()
    assert soft_answers(classifier, inputs) == pytest.approx(expected, abs=1e-6)


def test_answers_can_be_given_up() -> None:
    """The report is told before each batch, and what it raises ends the work."""
    classifier = build_classifier("mlp", input_shape=(1, 2, 2), classes=(A, B), trained=(A, B), seed=0)
    inputs = np.random.default_rng(0).random((1200, 1, 2, 2), np.float32)
    told: list[float] = []
    whole = soft_answers(classifier, inputs, lambda done, *_: told.append(done))
    assert told == [0, 512, 1024]
    assert np.array_equal(whole, soft_answers(classifier, inputs))

    def give_up(done: float, *_: object) -> None:
        if done:
            raise CancelledError("interrupted")

    with pytest.raises(CancelledError):
        soft_answers(classifier, inputs, give_up)


@pytest.mark.parametrize(("architecture", "most"), [("resnet18", 8), ("cnn", 85)])
def test_a_large_model_is_asked_about_few_inputs_at_once(
    architecture: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it can be given up within a quarter of a second or so, and the answers are those of one batch."""
    classifier = build_classifier(architecture, input_shape=(3, 32, 32), classes=(A, B), trained=(A,), seed=0)
    inputs = np.random.default_rng(0).random((2 * most, 3, 32, 32), np.float32)
    told: list[float] = []
    answers = soft_answers(classifier, inputs, lambda done, *_: told.append(done))
    assert told == [0, most]
    monkeypatch.setattr("qkt_p2p.models.evaluation._batch_size", lambda part, inputs: len(inputs))
    assert np.array_equal(answers, soft_answers(classifier, inputs))
