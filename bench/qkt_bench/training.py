"""Plain training of the baselines: epochs over one node's tensors, with what a baseline adds to the loss."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from qkt_p2p.models import augmented

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qkt_p2p.datasets import LabelledData
    from qkt_p2p.models import Classifier
    from qkt_p2p.types import Augmentation

    Penalty = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Recipe:
    """SGD with momentum 0.9 where `optimizer` is "sgd", else AdamW; `augment` is of every batch anew."""

    optimizer: str
    learning_rate: float
    epochs: int
    batch_size: int = 32
    weight_decay: float = 1e-4
    augment: Augmentation = "none"


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Inputs [n, C, H, W] and rows of the head [n]."""

    inputs: Tensor
    rows: Tensor

    def __len__(self) -> int:
        return len(self.inputs)


def with_augmented(recipes: Sequence[Recipe], augment: Augmentation) -> tuple[Recipe, ...]:
    """Return a grid's recipes, and each with augmented data, too, where a table's plan has such data."""
    if augment == "none":
        return tuple(recipes)
    return (*recipes, *(replace(recipe, augment=augment) for recipe in recipes))


def samples_of(data: LabelledData, classifier: Classifier) -> Samples:
    """Return data as tensors over a classifier whose head has a row for each of its classes."""
    rows = torch.tensor([classifier.classes.index(name) for name in data.classes])
    return Samples(torch.from_numpy(data.inputs), rows[torch.from_numpy(data.labels)])


def train_epochs(
    classifier: Classifier,
    samples: Samples,
    recipe: Recipe,
    *,
    generator: torch.Generator,
    penalty: Penalty | None = None,
    label_weight: float = 1.0,
) -> None:
    """Train in place by `label_weight` times the cross-entropy over all rows.

    `penalty`, a function of the batch's indices and logits, is added. Ends in evaluation mode.
    """
    optimizer = _optimizer(classifier, recipe)
    classifier.train()
    for _ in range(recipe.epochs):
        for batch in torch.split(torch.randperm(len(samples), generator=generator), recipe.batch_size):
            if len(batch) < 2:
                continue  # batch norm cannot take one sample
            logits = classifier(augmented(samples.inputs[batch], recipe.augment, generator))
            loss = label_weight * cross_entropy(logits, samples.rows[batch])
            if penalty is not None:
                loss = loss + penalty(batch, logits)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    classifier.eval()


def _optimizer(classifier: Classifier, recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            classifier.parameters(),
            lr=recipe.learning_rate,
            momentum=0.9,
            weight_decay=recipe.weight_decay,
        )
    return torch.optim.AdamW(
        classifier.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
