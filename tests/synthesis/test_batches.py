"""Synthetic batches with masked soft targets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from qkt_p2p.synthesis.batches import masked_targets

from qkt_p2p.datasets import LabelledData
from qkt_p2p.models import build_classifier
from qkt_p2p.synthesis import Bank, make_batch
from qkt_p2p.synthesis.moments import Moments
from qkt_p2p.types import ClassName

A, B, C = (ClassName(name) for name in "abc")


def test_masked_targets_mix_the_label_with_the_teachers_answer() -> None:
    """At equal shares an indifferent teacher leaves 0.75 for the label of two."""
    targets = masked_targets(torch.zeros(1, 2), torch.tensor([1]), temperature=2.0, label_share=0.5)
    assert targets.tolist() == [[0.25, 0.75]]


def test_the_largest_masked_target_is_the_label() -> None:
    """However sure the teacher is of another class, the class that the input was drawn from leads."""
    logits, labels = torch.randn(500, 4) * 5, torch.randint(4, (500,))
    targets = masked_targets(logits, labels, temperature=2.0, label_share=0.5)
    assert torch.allclose(targets.sum(1), torch.ones(500))
    assert torch.equal(targets.argmax(1), labels)


def test_a_batch_holds_each_class_of_the_mask_equally_often() -> None:
    """Targets are over the mask alone, inputs are levels, and the order is mixed but reproducible."""
    inputs = np.random.default_rng(0).random((60, 1, 4, 4), np.float32)
    data = LabelledData(inputs, np.arange(60) % 3, (A, B, C))
    classifier = build_classifier("mlp", input_shape=(1, 4, 4), classes=(C, B, A), trained=(A, B, C), seed=0)

    def batch() -> tuple[np.ndarray, np.ndarray]:
        bank = Bank(Moments(), data, model_version=1, cache={})
        made = make_batch(bank, classifier, [B, C], samples_per_class=20, seed=4)
        assert made.classes == (B, C)
        return made.inputs, made.targets

    (inputs, targets), again = batch(), batch()
    assert np.bincount(targets.argmax(1)).tolist() == [20, 20]
    assert len(set(targets.argmax(1)[:20].tolist())) == 2
    assert inputs * 255 == pytest.approx(np.round(inputs * 255), abs=1e-4)
    assert np.array_equal(inputs, again[0])
    assert np.array_equal(targets, again[1])
