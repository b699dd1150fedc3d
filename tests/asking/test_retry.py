"""When a peer is asked again, and after which pause."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkt_p2p.asking.retry import Attempts, Patience
from qkt_p2p.errors import (
    BudgetSpentError,
    NotTrustedError,
    PeerBusyError,
    PeerError,
    PeerRefusedError,
    PeerUnavailableError,
    ProtocolError,
    QktError,
)

PATIENCE = st.builds(
    Patience,
    attempts=st.integers(1, 12),
    pauses=st.tuples(st.floats(0.001, 10), st.floats(10, 100)),
    away=st.floats(0, 500),
    busy=st.integers(1, 40),
    busy_pause=st.floats(0.001, 100),
)
SEEDS = st.integers(0, 2**32)


@given(PATIENCE, SEEDS)
def test_an_unavailable_peer_is_asked_a_number_of_times(patience: Patience, seed: int) -> None:
    """Each pause lies below a ceiling that doubles up to its longest; then the error is final."""
    attempts, error = Attempts(patience, random.Random(seed)), PeerUnavailableError("gone")
    first, longest = patience.pauses
    for number in range(patience.attempts - 1):
        assert 0 <= attempts.pause_after(error, progressed=False) <= min(first * 2**number, longest)
    with pytest.raises(PeerUnavailableError):
        attempts.pause_after(error, progressed=False)


@given(PATIENCE, SEEDS, st.integers(0, 40))
def test_a_peer_that_is_needed_is_asked_for_a_time(patience: Patience, seed: int, progressed_at: int) -> None:
    """However often that is, and from the beginning again where an attempt brought something."""
    now = 0.0
    attempts = Attempts(patience, random.Random(seed), clock=lambda: now)
    error, last, number = PeerUnavailableError("gone"), 0.0, 0
    while True:
        if number == progressed_at:
            last = now
        try:
            pause = attempts.pause_after(error, progressed=number == progressed_at, needed=True)
        except PeerUnavailableError:
            break
        assert 0 <= pause <= patience.pauses[1]
        now, number = now + max(pause, 0.01), number + 1
    # A time that is far shorter than what the clock shows is lost in rounding.
    assert now - last >= patience.away - 1e-6
    assert number >= patience.attempts - 1


@given(PATIENCE, SEEDS, st.lists(st.floats(-1e3, 1e6), max_size=50))
def test_a_busy_peer_is_waited_for_as_it_asks(patience: Patience, seed: int, wanted: list[float]) -> None:
    """Never less than it says, up to half more, and within the cap; it may say so only so often."""
    attempts = Attempts(patience, random.Random(seed))
    for seconds in wanted[: patience.busy - 1]:
        pause = attempts.pause_after(PeerBusyError("later", retry_after=seconds), progressed=False)
        capped = min(seconds, patience.busy_pause)
        if seconds > 0:
            assert capped <= pause <= 1.5 * capped
        else:
            assert 0 <= pause <= patience.pauses[1]
    if len(wanted) >= patience.busy:
        with pytest.raises(PeerBusyError):
            attempts.pause_after(PeerBusyError("later", retry_after=1.0), progressed=False)


@given(PATIENCE, st.lists(st.booleans(), max_size=60))
def test_progress_begins_the_count_anew(patience: Patience, progress: list[bool]) -> None:
    """A peer is given up after a number of failures in a row that bring nothing, and not before."""
    attempts, in_vain = Attempts(patience), 0
    for progressed in progress:
        in_vain = 1 if progressed else in_vain + 1
        if in_vain >= patience.attempts:
            with pytest.raises(PeerUnavailableError):
                attempts.pause_after(PeerUnavailableError("gone"), progressed=progressed)
            return
        attempts.pause_after(PeerUnavailableError("gone"), progressed=progressed)


@pytest.mark.parametrize(
    "error",
    [
        NotTrustedError("not you"),
        PeerRefusedError("no"),
        ProtocolError("nonsense"),
        BudgetSpentError("no more"),
        PeerError("internal error"),
    ],
)
def test_an_answer_is_not_asked_for_again(error: QktError) -> None:
    """Who refuses, distrusts or breaks the protocol does so the next time as well."""
    with pytest.raises(type(error)) as caught:
        Attempts().pause_after(error, progressed=True)
    assert caught.value is error


def test_pauses_differ() -> None:
    """Those who lost the same peer at the same moment do not come back together."""
    pauses = [
        Attempts(chance=random.Random(seed)).pause_after(PeerUnavailableError("gone"), progressed=False)
        for seed in range(200)
    ]
    assert min(pauses) < 0.1
    assert max(pauses) > 0.9
