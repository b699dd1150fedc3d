"""Synthetic probe inputs with structure: random fields at many scales, as areas, lines and objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import interpolate

if TYPE_CHECKING:
    from collections.abc import Callable

    from qkt_p2p.types import Shape

_CONTROL_POINTS = range(2, 8)
_LINE_WIDTH = 0.5
_SOFT, _HARD = 2.0, 2e3


def make_probes(
    shape: Shape,
    count: int,
    *,
    seed: int,
    report: Callable[[float, float, str], None] = lambda *_: None,
) -> Tensor:
    """Return `count` probes [count, C, H, W] in [0, 1]; the same arguments give the same probes.

    Each is a field of 2x2 to 7x7 random control points, interpolated to the input's size, at random
    contrast and brightness. Every other one has two levels, as drawings have; half show the field's level
    line in place of its areas; half are cut to an ellipse, as objects are that lie before a background.
    Raises what `report` raises, which is told six times on the way.
    """
    generator = torch.Generator().manual_seed(seed)
    probes = torch.empty(count, *shape)
    for offset, points in enumerate(_CONTROL_POINTS):
        report(offset, len(_CONTROL_POINTS), "making probes")
        share = probes[offset :: len(_CONTROL_POINTS)]
        if len(share):
            patterns = _patterns(_fields(len(share), points, shape, generator), generator)
            share.copy_(_exposed(patterns * _windows(len(share), shape, generator), generator))
    return probes


def _fields(count: int, points: int, shape: Shape, generator: torch.Generator) -> Tensor:
    """Return smooth fields [count, C, H, W], each around a random level of its own."""
    channels, height, width = shape
    control = torch.randn(count, channels, points, points, generator=generator)
    fields = interpolate(control, size=(height, width), mode="bicubic", align_corners=True)
    return fields - _each(torch.randn(count, generator=generator)) / 2


def _patterns(fields: Tensor, generator: torch.Generator) -> Tensor:
    """Return fields [n, C, H, W] as areas or lines in [0, 1], soft or of two levels."""
    count = len(fields)
    lines = _each(torch.rand(count, generator=generator) < 0.5)
    steepness = _each(torch.where(torch.arange(count) % 2 == 0, _SOFT, _HARD))
    return torch.sigmoid(steepness * torch.where(lines, _LINE_WIDTH - fields.abs(), fields))


def _windows(count: int, shape: Shape, generator: torch.Generator) -> Tensor:
    """Return masks [count, 1, H, W]: ellipses for about half of them, and everything for the others."""
    _, height, width = shape
    down = torch.linspace(-1, 1, height).view(-1, 1) if height > 1 else torch.zeros(1, 1)
    across = torch.linspace(-1, 1, width) if width > 1 else torch.zeros(1)
    radii = (torch.rand(count, 2, generator=generator) * 0.7 + 0.5).view(count, 2, 1, 1)
    inside = (down / radii[:, :1]) ** 2 + (across / radii[:, 1:]) ** 2 < 1
    everywhere = _each(torch.rand(count, generator=generator) < 0.5)
    return (inside | everywhere).float()


def _exposed(patterns: Tensor, generator: torch.Generator) -> Tensor:
    """Return patterns [n, C, H, W] at random contrast and, for half of them, over a raised floor."""
    count = len(patterns)
    contrast = torch.rand(count, generator=generator) * 0.8 + 0.2
    raised = torch.rand(count, generator=generator) < 0.5
    floor = torch.rand(count, generator=generator) * (1 - contrast) * raised
    return _each(floor) + _each(contrast) * patterns


def _each(numbers: Tensor) -> Tensor:
    """Return one number per probe [n] so that it applies to the whole probe [n, 1, 1, 1]."""
    return numbers.view(-1, 1, 1, 1)
