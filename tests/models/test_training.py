"""A node's first training, and how it is measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from qkt_p2p.datasets import LabelledData, load_dataset
from qkt_p2p.errors import CancelledError, ConfigError
from qkt_p2p.models import Classifier, TrainingSettings, build_classifier, class_accuracies, train_classifier
from qkt_p2p.types import ClassName

SEEN = tuple(ClassName(name) for name in "369")


def ignore(done: float, total: float, message: str) -> None:
    pass


def fresh(data: LabelledData, architecture: str = "cnn", seed: int = 0) -> Classifier:
    return build_classifier(
        architecture, input_shape=data.input_shape, classes=data.classes, trained=data.present, seed=seed
    )


@pytest.fixture(scope="module")
def own() -> LabelledData:
    return load_dataset("digits", root=Path()).train.restrict(SEEN, 60, seed=0)


@pytest.mark.parametrize("architecture", ["cnn", "mlp"])
def test_training_learns_the_classes_of_the_data(own: LabelledData, architecture: str) -> None:
    """Real test digits of the classes seen are recognized; others score 0."""
    classifier = train_classifier(fresh(own, architecture), own, TrainingSettings(), seed=0, progress=ignore)
    test = load_dataset("digits", root=Path()).test
    accuracies = class_accuracies(classifier, test, among=test.classes)
    assert min(accuracies[name] for name in SEEN) >= 0.9
    assert {accuracies[name] for name in test.classes if name not in SEEN} == {0.0}
    assert not classifier.training


def test_training_is_reproducible_and_reports_each_epoch(own: LabelledData) -> None:
    """The same seed gives the same parameters, and progress counts epochs."""
    seen: list[tuple[float, float, str]] = []
    settings = TrainingSettings(epochs=2)
    heads = [
        train_classifier(
            fresh(own), own, settings, seed=4, progress=lambda *step: seen.append(step)
        ).head.weight
        for _ in range(2)
    ]
    assert torch.equal(*heads)
    assert [step[:2] for step in seen] == [(1, 2), (2, 2)] * 2


def test_what_layers_draw_follows_from_the_seed(own: LabelledData) -> None:
    """A module with dropout trains alike twice, and the process's own random numbers stay as they were."""
    state = torch.random.get_rng_state()
    heads = []
    for _ in range(2):
        forgetful = fresh(own, "mlp")
        forgetful.backbone.append(torch.nn.Dropout())
        trained = train_classifier(forgetful, own, TrainingSettings(epochs=2), seed=4, progress=ignore)
        heads.append(trained.head.weight)
    assert torch.equal(*heads)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_training_ends_when_the_loss_is_small_enough(own: LabelledData) -> None:
    """No epoch follows once the mean loss is below the settings' mark."""
    epochs: list[float] = []
    settings = TrainingSettings(epochs=5, enough_loss=1e9)
    train_classifier(fresh(own), own, settings, seed=0, progress=lambda done, *_: epochs.append(done))
    assert epochs == [1]


def test_training_ends_when_cancelled(own: LabelledData) -> None:
    """What progress raises reaches the caller."""

    def cancel(done: float, total: float, message: str) -> None:
        raise CancelledError("interrupted")

    with pytest.raises(CancelledError):
        train_classifier(fresh(own), own, TrainingSettings(), seed=0, progress=cancel)


def test_a_last_batch_of_one_sample_is_no_obstacle(own: LabelledData) -> None:
    """Batch norm cannot take a single sample; it waits for the next epoch."""
    odd = own.select(np.arange(33))
    train_classifier(fresh(odd), odd, TrainingSettings(epochs=1, batch_size=32), seed=0, progress=ignore)


def test_data_that_does_not_fit_is_refused(own: LabelledData) -> None:
    """Another size, a class without a row and a single sample are configuration errors."""
    flat = LabelledData(own.inputs.reshape(-1, 1, 4, 16), own.labels, own.classes)
    renamed = LabelledData(own.inputs, own.labels, tuple(ClassName(f"x{name}") for name in own.classes))
    for data in (flat, renamed, own.select(np.arange(1))):
        with pytest.raises(ConfigError):
            train_classifier(fresh(own), data, TrainingSettings(), seed=0, progress=ignore)


def test_accuracies_are_joint_over_the_classes_asked_for(own: LabelledData) -> None:
    """Leaving a class out of the choice can only help the others; no data gives no accuracies."""
    classifier = train_classifier(fresh(own), own, TrainingSettings(epochs=1), seed=0, progress=ignore)
    joint = class_accuracies(classifier, own, among=SEEN)
    alone = class_accuracies(classifier, own, among=SEEN[:1])
    assert joint.keys() == set(SEEN)
    assert alone == {SEEN[0]: 1.0}
    assert class_accuracies(classifier, own, among=[ClassName("0")]) == {}


def test_augmented_training_sees_shifted_images_and_ends_annealed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of images large enough another model comes out, twice the same; the learning rate falls to almost 0."""
    digits = load_dataset("digits", root=Path()).train.restrict(SEEN, 20, seed=0)
    large = LabelledData(digits.inputs.repeat(2, axis=2).repeat(2, axis=3), digits.labels, digits.classes)
    rates: list[float] = []
    adamw_step = torch.optim.AdamW.step

    def step(self: torch.optim.AdamW, *args: object) -> object:
        rates.append(self.param_groups[0]["lr"])
        return adamw_step(self, *args)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    plain, *shifted = (
        train_classifier(fresh(large), large, settings, seed=0, progress=ignore).head.weight
        for settings in (TrainingSettings(epochs=4), *[TrainingSettings(epochs=4, augment="shifts")] * 2)
    )
    assert torch.equal(*shifted)
    assert not torch.equal(plain, shifted[0])
    epochs = np.array(rates).reshape(3, 4, -1)
    assert (epochs[0] == epochs[0, 0, 0]).all()
    assert (np.diff(epochs[1, :, 0]) < 0).all()
    assert epochs[1, -1, 0] < 0.2 * epochs[1, 0, 0]
