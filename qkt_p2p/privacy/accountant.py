"""What noise costs: the privacy of Gaussian mechanisms, alone and together, exactly.

A sum of vectors no longer than 1 with Gaussian noise of deviation 1 / mu is mu-GDP; of several such
releases about the same sample the squares of mu add up, and each mu stands for one epsilon at every delta
(Dong, Roth, Su 2019; Balle, Wang 2018). Nothing is rounded up, so no budget is lost to a bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import erfc, exp, inf, sqrt
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_HALVINGS: Final = 60
_MOST_EPSILON: Final = 512.0
"""Beyond this an epsilon says nothing; its exponential ends at 709."""

_ALLOWED: Final = 1 + 1e-9
"""Of a budget, by rounding: the sum of its own parts may be beyond it by so much."""


@dataclass(frozen=True, slots=True)
class PrivacyBudget:
    """What all askers together may learn about one sample: (`epsilon`, `delta`)-differential privacy.

    It is for adding or removing a sample of a class. `release_epsilon` is that of one release, at the same
    `delta`.
    """

    epsilon: float
    release_epsilon: float
    delta: float

    @property
    def mu(self) -> float:
        """The mu of all releases together."""
        return mu_of(self.epsilon, self.delta)

    @property
    def release_mu(self) -> float:
        """The mu of one release."""
        return mu_of(self.release_epsilon, self.delta)

    def releases_left(self, spent: Iterable[float]) -> int:
        """Return how many releases fit beside those of these mu."""
        rest = (self.mu * _ALLOWED) ** 2 - composed(spent) ** 2
        return max(0, int(rest / self.release_mu**2))


def mu_of(epsilon: float, delta: float) -> float:
    """Return the largest mu that is (epsilon, delta)-differentially private."""
    low, high = 0.0, 1.0
    while _delta_of(high, epsilon) <= delta:
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _delta_of(middle, epsilon) <= delta else (low, middle)
    return low


def epsilon_of(mu: float, delta: float) -> float:
    """Return the least epsilon at which mu is (epsilon, delta)-differentially private; 0 for a mu of 0."""
    if mu == 0 or _delta_of(mu, 0.0) <= delta:
        return 0.0
    low, high = 0.0, 1.0
    while _delta_of(mu, high) > delta:
        low, high = high, 2 * high
        if high > _MOST_EPSILON:
            return inf
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _delta_of(mu, middle) > delta else (low, middle)
    return high


def composed(mus: Iterable[float]) -> float:
    """Return the mu of all releases together."""
    return sqrt(sum(mu * mu for mu in mus))


def fits(mus: Iterable[float], most_mu: float) -> bool:
    """Tell whether all releases together cost no more than `most_mu`."""
    return composed(mus) <= most_mu * _ALLOWED


def _delta_of(mu: float, epsilon: float) -> float:
    """Return the delta of mu at an epsilon."""
    return _phi(mu / 2 - epsilon / mu) - exp(epsilon) * _phi(-mu / 2 - epsilon / mu)


def _phi(x: float) -> float:
    """Return the normal distribution up to x, exact far below 0, too."""
    return erfc(-x / sqrt(2)) / 2
