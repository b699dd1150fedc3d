"""How long a node waits for those that do not answer."""

from __future__ import annotations

from structlog.testing import capture_logs

from qkt_p2p.discovery.pace import USUAL_PACE, Pace, Pauses
from qkt_p2p.errors import PeerUnavailableError
from qkt_p2p.limits import HEARTBEAT_SECONDS, REDIAL_SECONDS, SILENT_AFTER_SECONDS

PACE = Pace(redial=(1.0, 10.0))


def test_pauses_grow_to_the_longest_and_stay_there() -> None:
    """Each is drawn from the upper half of a range that doubles."""
    pauses = Pauses(PACE)
    drawn = [pauses.next() for _ in range(8)]
    for pause, ceiling in zip(drawn, [1, 2, 4, 8, 10, 10, 10, 10], strict=True):
        assert ceiling / 2 <= pause <= ceiling


def test_a_success_starts_again_with_the_first_pause() -> None:
    """A peer that was there a moment ago is dialed again soon."""
    pauses = Pauses(PACE)
    for _ in range(5):
        pauses.next()
    pauses.reset()
    assert pauses.next() <= 1


def test_pauses_are_jittered() -> None:
    """Nodes that lost the same peer do not all dial it at once."""
    assert len({Pauses(PACE).next() for _ in range(20)}) > 10


def test_a_failure_is_told_once() -> None:
    """Its repetitions are for debugging; another failure, or one after a success, is told again."""
    pauses = Pauses(PACE)
    with capture_logs() as logs:
        for error in ("down", "down", "moved", "down"):
            pauses.log("peer_unreachable", "a:1", PeerUnavailableError(error))
        pauses.reset()
        pauses.log("peer_unreachable", "a:1", PeerUnavailableError("down"))
    assert [entry["log_level"] for entry in logs] == ["warning", "debug", "warning", "warning", "warning"]
    assert logs[2] == {
        "event": "peer_unreachable",
        "address": "a:1",
        "error": "moved",
        "log_level": "warning",
    }


def test_usual_beats_leave_no_peer_silent() -> None:
    """Three beats in a row, jittered to their longest, come before a peer counts as silent."""
    beats = [USUAL_PACE.next_beat() for _ in range(200)]
    assert 0.75 * HEARTBEAT_SECONDS <= min(beats) <= max(beats) <= 1.25 * HEARTBEAT_SECONDS
    assert 2 * max(beats) < SILENT_AFTER_SECONDS
    assert USUAL_PACE.redial == REDIAL_SECONDS
