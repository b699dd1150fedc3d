"""A node's first training, on its own data alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from qkt_p2p.errors import ConfigError
from qkt_p2p.models.augment import augmented
from qkt_p2p.models.device import mixed_precision, seeded
from qkt_p2p.seeds import derived_seed

if TYPE_CHECKING:
    import numpy.typing as npt

    from qkt_p2p.datasets import LabelledData
    from qkt_p2p.models.classifier import Classifier
    from qkt_p2p.types import Augmentation, ReportDone


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """How the first training runs; the defaults are measured, see docs/method.md.

    Training ends after `epochs`, or once the mean loss of an epoch falls below `enough_loss`. Augmented data
    are never known by heart, so that this hardly happens: the learning rate then falls to 0 along a cosine.
    """

    epochs: int = 60
    batch_size: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    enough_loss: float = 0.002
    augment: Augmentation = "none"


def train_classifier(
    classifier: Classifier,
    data: LabelledData,
    settings: TrainingSettings,
    *,
    seed: int,
    progress: ReportDone,
) -> Classifier:
    """Train `classifier` in place on `data` and return it in evaluation mode.

    The loss runs over all rows of the head, so that classes without samples are learned as absent.
    Raises ConfigError where data and classifier do not fit.
    """
    _check_fit(classifier, data)
    device = classifier.device
    inputs, labels = (
        torch.from_numpy(array).to(device) for array in (data.inputs, _head_rows(classifier, data))
    )
    optimizer = torch.optim.AdamW(
        classifier.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = None if settings.augment == "none" else CosineAnnealingLR(optimizer, settings.epochs)
    generator = torch.Generator().manual_seed(seed)
    classifier.train()
    with seeded(derived_seed(seed, "layers"), device):
        for epoch in range(settings.epochs):
            losses = []
            for batch in _batches(len(data), settings.batch_size, generator):
                seen = augmented(inputs[batch], settings.augment, generator)
                with mixed_precision(device):
                    logits = classifier(seen)
                loss = nn.functional.cross_entropy(logits.float(), labels[batch])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                losses.append(loss.item())
            mean_loss = sum(losses) / len(losses)
            progress(epoch + 1, settings.epochs, f"training, loss {mean_loss:.3f}")
            if mean_loss < settings.enough_loss:
                break
            if schedule is not None:
                schedule.step()
    return classifier.eval()


def _batches(count: int, size: int, generator: torch.Generator) -> list[torch.Tensor]:
    """Return shuffled index batches; a last batch of one is left out, as batch norm cannot take it."""
    batches = torch.split(torch.randperm(count, generator=generator), size)
    return [batch for batch in batches if len(batch) > 1]


def _head_rows(classifier: Classifier, data: LabelledData) -> npt.NDArray[np.int64]:
    rows = np.array(
        [classifier.classes.index(name) if name in classifier.classes else -1 for name in data.classes]
    )
    return rows[data.labels]


def require_same_inputs(classifier: Classifier, data: LabelledData) -> None:
    """Raise ConfigError where the data's inputs are not of the size and colours that the classifier takes."""
    if data.input_shape != classifier.input_shape:
        raise ConfigError(
            f"the data has inputs of {data.input_shape}, the model takes {classifier.input_shape}",
            fix="set [data] source to data of that size, or start a new home",
        )


def _check_fit(classifier: Classifier, data: LabelledData) -> None:
    require_same_inputs(classifier, data)
    if missing := [name for name in data.present if name not in classifier.classes]:
        raise ConfigError(
            f"the model has no row for {', '.join(missing)}", fix="start a new home for these classes"
        )
    if len(data) < 2:
        raise ConfigError(
            f"{len(data)} samples are too few to train on", fix="set [data] source to more data"
        )
