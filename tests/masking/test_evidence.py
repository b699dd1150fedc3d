"""Evidence of a trained model: masks have to name just the classes it was trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qkt_p2p.datasets import LabelledData, load_dataset
from qkt_p2p.masking.evidence import class_evidence
from qkt_p2p.masking.masks import PROBES, mask_of, probes_for
from qkt_p2p.masking.probes import Probes
from qkt_p2p.models import TrainingSettings, build_classifier, train_classifier
from qkt_p2p.types import ClassName


@pytest.mark.parametrize("architecture", ["cnn", "mlp"])
@pytest.mark.parametrize("names", ["079", "14"])
def test_probes_find_what_a_model_knows(architecture: str, names: str) -> None:
    """A head over ten classes, trained on a few, shows those few on synthetic inputs alone."""
    trained = tuple(ClassName(name) for name in names)
    own = load_dataset("digits", root=Path()).train.restrict(trained, 60, seed=0)
    classifier = build_classifier(
        architecture, input_shape=own.input_shape, classes=own.classes, trained=trained, seed=0
    )
    train_classifier(classifier, own, TrainingSettings(), seed=0, progress=lambda *_: None)
    evidence = class_evidence(classifier, Probes(own.input_shape, PROBES, seed=9))
    assert mask_of(evidence) == trained
    assert all(0 <= value <= 1 for value in evidence.values())
    assert evidence == class_evidence(classifier, Probes(own.input_shape, PROBES, seed=9))


def test_probes_of_large_inputs_are_answered_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks with many takes no more of a teacher's memory; the evidence is the same."""
    names = [ClassName("a"), ClassName("b")]
    classifier = build_classifier("mlp", input_shape=(1, 8, 8), classes=names, trained=names, seed=0)
    whole = class_evidence(classifier, Probes((1, 8, 8), 100, seed=9))
    monkeypatch.setattr("qkt_p2p.masking.probes.MAX_DRAWN_NUMBERS", 64 * 30)
    probes = Probes((1, 8, 8), 100, seed=9)
    assert [len(part) for part in probes.parts()] == [30, 30, 30, 10]
    assert class_evidence(classifier, probes) == pytest.approx(whole)


def test_more_probes_find_what_a_model_knows_of_many_classes() -> None:
    """Few of a thousand probes look like one class of fifty; as few are telling among more of them."""
    looks = Probes((1, 8, 8), 50, seed=99).made(0, 50).numpy()
    noise = np.random.default_rng(0).normal(0, 0.15, (50, 15, 1, 8, 8))
    inputs = (looks[:, None] + noise).clip(0, 1).reshape(-1, 1, 8, 8).astype(np.float32)
    names = tuple(ClassName(f"class {number}") for number in range(50))
    trained = names[:40]
    own = LabelledData(inputs, np.repeat(np.arange(50), 15), names).restrict(trained, seed=0)
    classifier = build_classifier("mlp", input_shape=(1, 8, 8), classes=names, trained=trained, seed=0)
    train_classifier(classifier, own, TrainingSettings(epochs=15), seed=0, progress=lambda *_: None)
    few, many = (
        mask_of(class_evidence(classifier, Probes((1, 8, 8), probes, seed=9)))
        for probes in (PROBES, probes_for(50))
    )
    assert set(few) < set(many) <= set(trained)
    assert len(few) < 35
    assert len(many) > 37


def test_a_class_of_few_samples_shows_less() -> None:
    """All three are known; how sure the model is of a telling input does not tell them apart."""
    names = [ClassName(name) for name in "036"]
    data = load_dataset("digits", root=Path()).train
    counts = {names[0]: 90, names[1]: 30, names[2]: 10}
    chosen = [
        np.flatnonzero(data.labels == data.classes.index(name))[:count] for name, count in counts.items()
    ]
    own = data.select(np.concatenate(chosen))
    classifier = build_classifier(
        "cnn", input_shape=own.input_shape, classes=own.classes, trained=names, seed=0
    )
    train_classifier(classifier, own, TrainingSettings(), seed=0, progress=lambda *_: None)
    evidence = class_evidence(classifier, Probes(own.input_shape, PROBES, seed=9))
    assert mask_of(evidence) == tuple(names)
    assert sorted(names, key=lambda name: -evidence[name]) == names
