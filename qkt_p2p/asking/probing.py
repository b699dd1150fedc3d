"""The probe step of a query: every peer at once, and nobody is waited for who is late and not needed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from qkt_p2p.asking.collecting import give_up, left_out_if_it_fails, note_cut
from qkt_p2p.asking.retry import asked_again
from qkt_p2p.asking.selection import evidence_suffices
from qkt_p2p.types import Progress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qkt_p2p.outcome import QueryOutcome, TeacherOutcome
    from qkt_p2p.seams import ReportProgress, TeacherLink
    from qkt_p2p.types import PeerId, ProbeRequest


async def probe_all(
    outcome: QueryOutcome,
    peers: Mapping[PeerId, TeacherLink],
    request: ProbeRequest,
    *,
    enough_at: float,
    progress: ReportProgress,
) -> None:
    """Note in the outcome what each peer shows: evidence e[t, c], what it can teach, in which media.

    From `enough_at` on, a time of the event loop's clock, those who answered are enough where they can
    teach each class asked for; the others are left out, as are those that fail. Where nobody answers, it
    may be this node that lost its network, and all are asked again for some seconds.
    """
    answered, reports = 0, 0

    async def probe(teacher: TeacherOutcome) -> None:
        nonlocal answered, reports
        with left_out_if_it_fails(teacher):
            report = await asked_again(lambda: peers[teacher.peer].probe(request), needed=lambda: not reports)
            reports += 1
            teacher.evidence = {item.class_name: item.evidence for item in report.evidence}
            teacher.teachable = tuple(item.class_name for item in report.evidence if item.teachable)
            teacher.media = report.media
        answered += 1
        told = "failed" if teacher.reason else "answered"
        progress(Progress("probe", answered, len(peers), f"{teacher.name} {told}"))

    tasks = {asyncio.create_task(probe(outcome.teachers[peer])): outcome.teachers[peer] for peer in peers}
    try:
        late = await _until_enough(outcome, set(tasks), enough_at)
    finally:
        await give_up(tasks)
    for task in late:
        told = note_cut(tasks[task], "slow", "it has not answered the probe")
        progress(Progress("probe", 0, 0, told))


async def _until_enough(
    outcome: QueryOutcome, pending: set[asyncio.Task[None]], enough_at: float
) -> set[asyncio.Task[None]]:
    """Return those that are not waited for any longer; raises what is no peer's failure."""
    now = asyncio.get_running_loop().time
    while pending:
        enough = evidence_suffices(outcome)
        if enough and now() >= enough_at:
            break
        done, pending = await asyncio.wait(
            pending, timeout=enough_at - now() if enough else None, return_when=asyncio.FIRST_COMPLETED
        )
        for task in done:
            task.result()
    return pending
