"""What loops tell of their progress -> what an operation reports, and an end to what takes too long."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from qkt_p2p.errors import PeerRefusedError
from qkt_p2p.types import Progress

if TYPE_CHECKING:
    from qkt_p2p.seams import ReportProgress
    from qkt_p2p.types import ReportDone


def steps_of(step: str, report: ReportProgress) -> ReportDone:
    """Return the callback of a loop that reports as `step`."""
    return lambda done, total, message: report(Progress(step, done, total, message))


def within(seconds: float, report: ReportDone) -> ReportDone:
    """Return `report` as one that raises PeerRefusedError once so many seconds from now have passed."""
    deadline = time.monotonic() + seconds

    def timed(done: float, total: float, message: str) -> None:
        if time.monotonic() > deadline:
            raise PeerRefusedError(
                f"what was asked for takes this node longer than {seconds:g} s: ask for fewer classes"
            )
        report(done, total, message)

    return timed
