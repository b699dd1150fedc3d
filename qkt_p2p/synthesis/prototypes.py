"""A class as a prototype: what a teacher with a privacy budget releases in place of a recipe.

Each sample is scaled to length 1, so that adding or removing one changes their sum by 1 at most, whatever an
asker's stem makes of it; sum and count get Gaussian noise. How long samples are, and how they deviate from
the mean of their class, the asker knows of its own.
"""

from __future__ import annotations

from math import hypot
from random import SystemRandom
from typing import TYPE_CHECKING, Final

import numpy as np

from qkt_p2p.synthesis.recipes import rectified, textured
from qkt_p2p.wire.prototypes import Prototype

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from qkt_p2p.synthesis.medium import Reading
    from qkt_p2p.types import ReportDone

    Samples = npt.NDArray[np.float32]

_COUNT_WEIGHT: Final = 0.5
"""Of a sample in the count, beside 1 in the sum: the count's noise is then a small part of the mean's."""

_PART_SAMPLES: Final = 1024
_LARGEST: Final = 60_000.0
"""Numbers travel as float16."""


def fit_prototype(
    inputs: Samples, enter: Callable[[Samples], Samples], *, mu: float, report: ReportDone = lambda *_: None
) -> Prototype:
    """Return the prototype of inputs [n, C, H, W] in the space that `enter` takes them to, which is mu-GDP.

    That is for adding or removing one of them; `mu` is that of privacy/accountant.py. Noise comes from the
    system's secure generator: another call gives another prototype. Raises what `enter` and `report` raise.
    """
    total = 0.0
    for at in range(0, len(inputs), _PART_SAMPLES):
        report(at, len(inputs), "adding up samples")
        total = total + _unit(enter(inputs[at : at + _PART_SAMPLES])).sum(0)
    deviation = hypot(1.0, _COUNT_WEIGHT) / mu
    noisy = np.asarray(total) + _noise(np.size(total), deviation)
    count = len(inputs) + _noise(1, deviation / _COUNT_WEIGHT)[0]
    return Prototype((noisy / max(count, 1.0)).clip(-_LARGEST, _LARGEST).astype(np.float32))


def draw_of_prototype(prototype: Prototype, reading: Reading, *, seed: int) -> Samples:
    """Return `reading.count` samples [count, d] about a prototype, which look as the asker's own do."""
    deviations = reading.deviations
    mean = (prototype.direction * np.float32(reading.length)).clip(reading.low, reading.high)
    generator = np.random.default_rng(seed)
    spread = deviations.std(0) if len(deviations) else np.zeros_like(mean)
    samples = mean + spread * textured(deviations, (reading.count, len(mean)), generator)
    if (reading.low, reading.high) == (0, np.inf):
        samples = rectified(samples)
    drawn: Samples = samples.astype(np.float32).clip(reading.low, reading.high)
    return drawn


def _unit(samples: Samples) -> npt.NDArray[np.float64]:
    """Return samples [n, ...] as rows [n, d] of length 1, or 0 where one has no length that is a number."""
    rows = samples.reshape(len(samples), -1).astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    fit = np.isfinite(lengths) & (lengths > 0)
    unit: npt.NDArray[np.float64] = np.where(fit, rows, 0.0) / np.where(fit, lengths, 1.0)
    return unit


def _noise(numbers: int, deviation: float) -> npt.NDArray[np.float64]:
    """Return Gaussian noise [numbers] that nobody can guess, from what they see of it, either."""
    generator = SystemRandom()
    return np.array([generator.gauss(0.0, deviation) for _ in range(numbers)])
