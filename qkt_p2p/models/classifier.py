"""A classifier h(g(x)): backbone g, linear head h with one row per class name."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn

from qkt_p2p.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from qkt_p2p.types import ClassName, Shape

_CNN_WIDTHS: Final = (16, 32, 32)
_CNN_FINAL_SIDE: Final = 3
_MLP_WIDTHS: Final = (128, 64)


class Classifier(nn.Module):
    """A backbone with a head over a label space.

    `classes` are the head's rows in order; `trained` are those of them that the classifier has learned.
    Rows of other classes exist where the label space of the data is wider than the data.
    """

    def __init__(
        self,
        backbone: nn.Sequential,
        head: nn.Linear,
        *,
        architecture: str,
        input_shape: Shape,
        classes: Sequence[ClassName],
        trained: Collection[ClassName],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.architecture = architecture
        self.input_shape = input_shape
        self.classes = tuple(classes)
        self.trained = tuple(name for name in self.classes if name in trained)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits [n, len(classes)] of inputs [n, C, H, W] in [0, 1]."""
        logits: Tensor = self.head(self.backbone(inputs))
        return logits

    def rows(self, classes: Collection[ClassName]) -> list[int]:
        """Return the head's rows of `classes`, in the head's order; unknown names are left out."""
        return [row for row, name in enumerate(self.classes) if name in classes]

    def grown(self, classes: Collection[ClassName], *, seed: int) -> Classifier:
        """Return a copy that is ready to learn `classes`, and counts them as trained.

        Rows of classes that it has not learned are drawn afresh from `seed`, or appended where absent.
        """
        fresh = [name for name in classes if name not in self.trained]
        names = self.classes + tuple(name for name in fresh if name not in self.classes)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            head = nn.Linear(self.head.in_features, len(names))
        kept = [row for row, name in enumerate(self.classes) if name not in fresh]
        with torch.no_grad():
            head.weight[kept] = self.head.weight[kept]
            head.bias[kept] = self.head.bias[kept]
        return Classifier(
            copy.deepcopy(self.backbone),
            head,
            architecture=self.architecture,
            input_shape=self.input_shape,
            classes=names,
            trained={*self.trained, *classes},
        )


def build_classifier(
    architecture: str,
    *,
    input_shape: Shape,
    classes: Sequence[ClassName],
    trained: Collection[ClassName],
    seed: int,
) -> Classifier:
    """Return an untrained classifier of a built-in architecture; raises ConfigError for another name."""
    if architecture not in ARCHITECTURES:
        raise ConfigError(
            f"there is no built-in architecture {architecture!r}",
            fix=f"set [model] architecture to one of {', '.join(ARCHITECTURES)}",
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone, width = ARCHITECTURES[architecture](input_shape)
        head = nn.Linear(width, len(classes))
    return Classifier(
        backbone,
        head,
        architecture=architecture,
        input_shape=input_shape,
        classes=classes,
        trained=trained,
    )


def _cnn(shape: Shape) -> tuple[nn.Sequential, int]:
    """Three conv-norm-pool blocks, then average pooling to at most 3x3: 8x8 to 64x64 inputs fit."""
    channels, height, width = shape
    blocks: list[nn.Module] = []
    for widened in _CNN_WIDTHS:
        window = (min(2, height), min(2, width))
        blocks += [
            nn.Conv2d(channels, widened, 3, padding=1, bias=False),
            nn.BatchNorm2d(widened),
            nn.ReLU(),
            nn.MaxPool2d(window),
        ]
        channels, height, width = widened, height // window[0], width // window[1]
    side = (min(height, _CNN_FINAL_SIDE), min(width, _CNN_FINAL_SIDE))
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(side), nn.Flatten()), channels * side[0] * side[1]


def _mlp(shape: Shape) -> tuple[nn.Sequential, int]:
    """Two hidden layers over the flattened input."""
    width = shape[0] * shape[1] * shape[2]
    layers: list[nn.Module] = [nn.Flatten()]
    for narrower in _MLP_WIDTHS:
        layers += [nn.Linear(width, narrower, bias=False), nn.BatchNorm1d(narrower), nn.ReLU()]
        width = narrower
    return nn.Sequential(*layers), width


ARCHITECTURES: Final[dict[str, Callable[[Shape], tuple[nn.Sequential, int]]]] = {"mlp": _mlp, "cnn": _cnn}
"""Built-in architectures: input shape -> backbone and the width of its features."""
