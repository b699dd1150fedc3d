"""What noise costs: known values, each function the other's inverse, and what the definition says."""

from __future__ import annotations

from math import exp, inf, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from qkt_p2p.limits import MAX_EPSILON
from qkt_p2p.privacy.accountant import PrivacyBudget, composed, epsilon_of, mu_of

epsilons = st.floats(0.01, MAX_EPSILON)
deltas = st.floats(1e-12, 1e-3)


def test_the_noise_of_known_budgets() -> None:
    """Deviations of the analytic Gaussian mechanism, as in Balle and Wang 2018."""
    assert 1 / mu_of(1.0, 1e-5) == pytest.approx(3.7306, abs=1e-4)
    assert 1 / mu_of(8.0, 1e-6) == pytest.approx(0.6529, abs=1e-4)


@given(epsilons, deltas)
def test_each_is_the_others_inverse(epsilon: float, delta: float) -> None:
    """Neither claims more privacy than there is."""
    mu = mu_of(epsilon, delta)
    assert epsilon_of(mu, delta) == pytest.approx(epsilon, rel=1e-6)
    assert mu > 0


@given(epsilons, deltas, st.floats(1.01, 3.0))
def test_more_noise_is_more_privacy(epsilon: float, delta: float, factor: float) -> None:
    """A greater mu costs a greater epsilon; a smaller delta lets less mu through."""
    mu = mu_of(epsilon, delta)
    assert epsilon_of(mu * factor, delta) > epsilon_of(mu, delta) > epsilon_of(mu / factor, delta)
    assert mu_of(epsilon, delta / factor) < mu


def hockey_stick(mu: float, epsilon: float) -> float:
    """Return delta by its definition: by how much results are likelier than e^epsilon times as likely."""
    with_it, without = norm(mu, 1).pdf, norm(0, 1).pdf
    least = epsilon / mu + mu / 2
    return float(quad(lambda x: with_it(x) - exp(epsilon) * without(x), least, least + 40, epsabs=1e-16)[0])


@pytest.mark.parametrize(("epsilon", "delta"), [(0.5, 1e-6), (2.0, 1e-6), (2.0, 1e-3), (8.0, 1e-6)])
def test_it_is_what_the_definition_says(epsilon: float, delta: float) -> None:
    """Integrated numerically, between two neighbouring data sets."""
    assert hockey_stick(mu_of(epsilon, delta), epsilon) == pytest.approx(delta, rel=1e-4)


def test_independent_releases_are_one_in_their_common_direction() -> None:
    """The ratio of their densities depends on one number, which is Gaussian as well: by simulation."""
    mus, generator, epsilon = np.array([0.3, 0.4, 1.2]), np.random.default_rng(0), 1.0
    points = generator.standard_normal((400_000, 3)) + mus
    log_ratio = points @ mus - (mus**2).sum() / 2
    found = np.maximum(0.0, 1 - np.exp(epsilon - log_ratio)).mean()
    assert found == pytest.approx(hockey_stick(composed(mus), epsilon), rel=0.02)
    assert epsilon_of(composed(mus), hockey_stick(composed(mus), epsilon)) == pytest.approx(epsilon, rel=1e-4)


def test_nothing_released_costs_nothing() -> None:
    """And what would cost more than any number says is without bound."""
    assert epsilon_of(composed([]), 1e-6) == 0.0
    assert epsilon_of(1e-9, 1e-3) == 0.0
    assert epsilon_of(1000.0, 1e-6) == inf


def test_releases_add_up_by_their_squares() -> None:
    """Four times as many releases are twice the mu, and a budget holds as many as its squares allow."""
    budget = PrivacyBudget(8.0, 2.0, 1e-6)
    assert composed([budget.release_mu] * 4) == pytest.approx(2 * budget.release_mu)
    assert int(budget.mu**2 / budget.release_mu**2) == 11
    assert (
        epsilon_of(sqrt(11) * budget.release_mu, 1e-6) < 8.0 < epsilon_of(sqrt(12) * budget.release_mu, 1e-6)
    )
