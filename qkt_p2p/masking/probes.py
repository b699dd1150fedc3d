"""Synthetic probe inputs with structure: random fields at many scales, as areas, lines and objects."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from qkt_p2p.limits import MAX_DRAWN_NUMBERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qkt_p2p.types import ReportDone, Shape

_CONTROL_POINTS = range(2, 8)
_LINE_WIDTH = 0.5
_SOFT, _HARD = 2.0, 2e3


def make_probes(shape: Shape, count: int, *, seed: int) -> Tensor:
    """Return all of these probes at once [count, C, H, W]."""
    return Probes(shape, count, seed=seed).made(0, count)


class Probes:
    """So many probes [C, H, W] in [0, 1]; the same arguments give the same probes.

    Each is a field of 2x2 to 7x7 random control points, interpolated to the input's size, at random
    contrast and brightness. Every other one has two levels, as drawings have; half show the field's level
    line in place of its areas; half are cut to an ellipse, as objects are that lie before a background.

    All chance is drawn at once, and is little; pixels are made on demand alone. A part of the probes is what
    it is in all of them, but for the last bit of a few pixels.
    """

    def __init__(self, shape: Shape, count: int, *, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self._shape, self._count = shape, count
        every = len(_CONTROL_POINTS)
        self._kinds = [
            _Chances.drawn(len(range(offset, count, every)), points, shape[0], generator)
            for offset, points in enumerate(_CONTROL_POINTS)
        ]

    def parts(self, report: ReportDone = lambda *_: None, *, grown: int = 0) -> Iterator[Tensor]:
        """Yield all probes, of large inputs a part at a time: together they might take any memory.

        So might what is made of them, where each comes to be as many numbers as `grown`.
        """
        step = max(1, MAX_DRAWN_NUMBERS // max(prod(self._shape), grown))
        for start in range(0, self._count, step):
            yield self.made(start, min(start + step, self._count), report)

    def made(self, start: int, stop: int, report: ReportDone = lambda *_: None) -> Tensor:
        """Return probes [stop - start, C, H, W], of which the first is number `start` of all.

        Raises what `report` raises, which is told six times on the way.
        """
        probes = torch.empty(stop - start, *self._shape)
        every = len(_CONTROL_POINTS)
        for offset, chances in enumerate(self._kinds):
            report(offset, every, "making probes")
            # As many of a kind lie before a probe as whole rounds, and one where its own round passed them.
            first, last = ((at - offset + every - 1) // every for at in (start, stop))
            if last > first:
                probes[offset + every * first - start :: every] = chances.made(first, last, self._shape)
        return probes


@dataclass(frozen=True, slots=True, eq=False)
class _Chances:
    """What is random about n probes of a kind: control points [n, C, p, p], radii [n, 2], the others [n]."""

    control: Tensor
    level: Tensor
    lines: Tensor
    radii: Tensor
    everywhere: Tensor
    contrast: Tensor
    raised: Tensor
    floor: Tensor

    @classmethod
    def drawn(cls, count: int, points: int, channels: int, generator: torch.Generator) -> _Chances:
        """Draw them, in an order that probes depend on."""
        return cls(
            control=torch.randn(count, channels, points, points, generator=generator),
            level=torch.randn(count, generator=generator),
            lines=torch.rand(count, generator=generator) < 0.5,
            radii=torch.rand(count, 2, generator=generator) * 0.7 + 0.5,
            everywhere=torch.rand(count, generator=generator) < 0.5,
            contrast=torch.rand(count, generator=generator) * 0.8 + 0.2,
            raised=torch.rand(count, generator=generator) < 0.5,
            floor=torch.rand(count, generator=generator),
        )

    def made(self, first: int, last: int, shape: Shape) -> Tensor:
        """Return probes `first` to `last` of this kind, without the last one."""
        some = _Chances(*(getattr(self, field.name)[first:last] for field in fields(self)))
        hard = torch.arange(first, last) % 2 == 1
        return some._exposed(some._patterns(some._fields(shape), hard) * some._windows(shape))

    def _fields(self, shape: Shape) -> Tensor:
        """Return smooth fields [n, C, H, W], each around a random level of its own."""
        smooth = interpolate(self.control, size=shape[1:], mode="bicubic", align_corners=True)
        return smooth - _each(self.level) / 2

    def _patterns(self, smooth: Tensor, hard: Tensor) -> Tensor:
        """Return fields [n, C, H, W] as areas or lines in [0, 1], soft or of two levels."""
        steepness = _each(torch.where(hard, _HARD, _SOFT))
        return torch.sigmoid(steepness * torch.where(_each(self.lines), _LINE_WIDTH - smooth.abs(), smooth))

    def _windows(self, shape: Shape) -> Tensor:
        """Return masks [n, 1, H, W]: ellipses for about half of them, and everything for the others."""
        _, height, width = shape
        down = torch.linspace(-1, 1, height).view(-1, 1) if height > 1 else torch.zeros(1, 1)
        across = torch.linspace(-1, 1, width) if width > 1 else torch.zeros(1)
        radii = self.radii.view(-1, 2, 1, 1)
        inside = (down / radii[:, :1]) ** 2 + (across / radii[:, 1:]) ** 2 < 1
        return (inside | _each(self.everywhere)).float()

    def _exposed(self, patterns: Tensor) -> Tensor:
        """Return patterns [n, C, H, W] at random contrast and, for half of them, over a raised floor."""
        floor = self.floor * (1 - self.contrast) * self.raised
        return _each(floor) + _each(self.contrast) * patterns


def _each(numbers: Tensor) -> Tensor:
    """Return one number per probe [n] so that it applies to the whole probe [n, 1, 1, 1]."""
    return numbers.view(-1, 1, 1, 1)
