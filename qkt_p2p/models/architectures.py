"""The built-in architectures: backbones of blocks, between any two of which they can be cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable

    from qkt_p2p.types import Shape

_MLP_WIDTHS: Final = (128, 64)
_CNN_WIDTHS: Final = (16, 32, 32)
_CNN_FINAL_SIDE: Final = 3
_RESNET_WIDTHS: Final = (64, 128, 256, 512)


@dataclass(frozen=True, slots=True)
class Architecture:
    """`build` maps an input shape to a backbone, one child per block, and the width of its features.

    `cut` is the number of leading blocks that make its stem; the choices are measured, see docs/method.md.
    """

    build: Callable[[Shape], tuple[nn.Sequential, int]]
    cut: int


def _mlp(shape: Shape) -> tuple[nn.Sequential, int]:
    """Two hidden layers over the flattened input."""
    width = shape[0] * shape[1] * shape[2]
    blocks: list[nn.Sequential] = []
    for narrower in _MLP_WIDTHS:
        flatten = [] if blocks else [nn.Flatten()]
        layers = (nn.Linear(width, narrower, bias=False), nn.BatchNorm1d(narrower), nn.ReLU())
        blocks.append(nn.Sequential(*flatten, *layers))
        width = narrower
    return nn.Sequential(*blocks), width


def _cnn(shape: Shape) -> tuple[nn.Sequential, int]:
    """Three conv-norm-pool blocks, then average pooling to at most 3x3: 8x8 to 64x64 inputs fit."""
    channels, height, width = shape
    blocks: list[nn.Sequential] = []
    for widened in _CNN_WIDTHS:
        window = (min(2, height), min(2, width))
        blocks.append(
            nn.Sequential(
                nn.Conv2d(channels, widened, 3, padding=1, bias=False),
                nn.BatchNorm2d(widened),
                nn.ReLU(),
                nn.MaxPool2d(window),
            )
        )
        channels, height, width = widened, height // window[0], width // window[1]
    side = (min(height, _CNN_FINAL_SIDE), min(width, _CNN_FINAL_SIDE))
    blocks[-1].extend([nn.AdaptiveAvgPool2d(side), nn.Flatten()])
    return nn.Sequential(*blocks), channels * side[0] * side[1]


def _resnet18(shape: Shape) -> tuple[nn.Sequential, int]:
    """ResNet-18 for small images (He et al. 2016): a 3x3 stem that keeps the size, no max pool."""
    width = _RESNET_WIDTHS[0]
    blocks = [
        nn.Sequential(nn.Conv2d(shape[0], width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
    ]
    for widened in _RESNET_WIDTHS:
        stride = 1 if len(blocks) == 1 else 2
        blocks.append(nn.Sequential(_Residual(width, widened, stride), _Residual(widened, widened, 1)))
        width = widened
    blocks[-1].extend([nn.AdaptiveAvgPool2d(1), nn.Flatten()])
    return nn.Sequential(*blocks), width


class _Residual(nn.Module):
    """Two 3x3 convolutions added to the input, which is projected where the shape changes."""

    def __init__(self, width: int, widened: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, widened, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(widened),
            nn.ReLU(),
            nn.Conv2d(widened, widened, 3, padding=1, bias=False),
            nn.BatchNorm2d(widened),
        )
        self.shortcut = nn.Sequential()
        if (width, 1) != (widened, stride):
            self.shortcut.extend([nn.Conv2d(width, widened, 1, stride, bias=False), nn.BatchNorm2d(widened)])

    def forward(self, inputs: Tensor) -> Tensor:
        summed: Tensor = self.body(inputs) + self.shortcut(inputs)
        return summed.relu()


ARCHITECTURES: Final = {
    "mlp": Architecture(_mlp, cut=1),
    "cnn": Architecture(_cnn, cut=2),
    "resnet18": Architecture(_resnet18, cut=3),
}
"""Built-in architectures by name."""
