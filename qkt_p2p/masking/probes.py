"""Synthetic probe inputs with structure: random fields at many scales, smooth and thresholded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import interpolate

if TYPE_CHECKING:
    from qkt_p2p.types import Shape

PROBES = 1024
"""Probes in a usual request; they cost one forward pass."""

_CONTROL_POINTS = range(2, 8)


def make_probes(shape: Shape, count: int, *, seed: int) -> Tensor:
    """Return `count` probes [count, C, H, W] in [0, 1]; the same arguments give the same probes.

    Each is a field of 2x2 to 7x7 random control points, interpolated to the input's size, at random
    contrast and brightness; every other one is thresholded to two levels, as drawings and masks are.
    """
    generator = torch.Generator().manual_seed(seed)
    probes = torch.empty(count, *shape)
    for offset, points in enumerate(_CONTROL_POINTS):
        share = probes[offset :: len(_CONTROL_POINTS)]
        if len(share):
            share.copy_(_fields(len(share), points, shape, generator))
    return probes


def _fields(count: int, points: int, shape: Shape, generator: torch.Generator) -> Tensor:
    channels, height, width = shape
    control = torch.randn(count, channels, points, points, generator=generator)
    fields = interpolate(control, size=(height, width), mode="bicubic", align_corners=True)
    steepness = torch.where(torch.arange(count) % 2 == 0, 1.0, 1e3).view(-1, 1, 1, 1)
    threshold = torch.randn(count, 1, 1, 1, generator=generator) / 2
    contrast = torch.rand(count, 1, 1, 1, generator=generator) * 0.8 + 0.2
    floor = torch.rand(count, 1, 1, 1, generator=generator) * (1 - contrast)
    floor[torch.rand(count, generator=generator) < 0.5] = 0
    return floor + contrast * torch.sigmoid(2 * steepness * (fields - threshold))
