"""One schedule: one query with its faults, how it ended, and what should not have happened."""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from qkt_node.cluster.chaos.cluster import ASKER
from qkt_node.control.client import connect
from qkt_node.events import Ended, QueryOptions, Started
from qkt_p2p.errors import NotRunningError, QktError
from qkt_p2p.outcome import STEPS

if TYPE_CHECKING:
    from qkt_node.cluster.chaos.cluster import ChaosCluster
    from qkt_node.cluster.chaos.schedule import Schedule
    from qkt_p2p.types import ClassName, Progress

LATE_SECONDS: Final = 2.0
"""A query may end so long after its deadline."""

HANG_SECONDS: Final = 60.0
"""A query that is so late is given up."""

SAME: Final = 1e-6
"""Accuracies that differ by less are the same."""

_UNFORESEEN: Final = re.compile(r"\w failed: (?!OSError)\w+: ")
"""How a worker tells an error that nobody foresaw; a disk without room is foreseen."""

_POLL_SECONDS: Final = 0.2
_GOOD_ENDS: Final = ("accepted", "refused", "failed")
_ENDS: Final = (*_GOOD_ENDS, "cancelled", "interrupted")


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked in every schedule, as a trial: models stay as they are."""

    classes: tuple[ClassName, ...]
    seed: int
    deadline_seconds: float


@dataclass(frozen=True, slots=True)
class TrialEnd:
    """How the query of one schedule ended; `problems` are the rules that this broke."""

    schedule: Schedule
    state: str
    reason: str
    seconds: float
    late: float
    data: dict[str, Any]
    problems: tuple[str, ...] = ()

    def as_data(self) -> dict[str, Any]:
        """Return this for machines."""
        return {
            "seed": self.schedule.seed,
            "faults": [str(fault) for fault in self.schedule.faults],
            "end": self.state,
            "reason": self.reason,
            "seconds": round(self.seconds, 2),
            "late": round(self.late, 2),
            "teachers": {each["name"]: _told(each) for each in self.data.get("teachers", ())},
            "accuracy": self.data.get("mean_query_accuracy", {}).get("after"),
            "problems": list(self.problems),
        }


class Trial:
    """Runs one schedule; `run` returns its end and leaves the cluster with whatever befell it."""

    def __init__(self, cluster: ChaosCluster, question: Question, schedule: Schedule) -> None:
        self._cluster = cluster
        self._question = question
        self._schedule = schedule
        self._waiting = list(schedule.faults)
        self._query_id = ""
        self._ended: Ended | None = None
        self._excused = 0.0

    async def run(self) -> TrialEnd:
        """Ask, let the faults befall, and see how it ends."""
        self._cluster.reseed(self._schedule)
        began = time.monotonic()
        most = self._question.deadline_seconds + HANG_SECONDS
        try:
            async with asyncio.timeout(most):
                await self._ask()
                state, data, reason = await self._end()
        except TimeoutError:
            state, data, reason = "hangs", {}, f"it did not end within {most:.0f} s"
        seconds = time.monotonic() - began
        late = max(seconds - self._question.deadline_seconds - self._excused, 0.0)
        return TrialEnd(self._schedule, state, reason, seconds, late, data)

    async def _ask(self) -> None:
        """Run the query until it ends, or until its daemon does."""
        question = self._question
        options = QueryOptions(
            question.classes,
            deadline_seconds=question.deadline_seconds,
            seed=question.seed,
            trial=True,
        )
        try:
            async with connect(self._cluster.home(ASKER)) as client:
                async for event in client.run_query(options):
                    match event:
                        case Started():
                            self._query_id = event.query_id
                        case Ended():
                            self._ended = event
                        case progress:
                            await self._befall(progress)
        except NotRunningError:
            # It was killed; what became of the query, its journal knows.
            return

    async def _befall(self, progress: Progress) -> None:
        """Begin the faults whose time has come: that of their step, or of a step that comes after it."""
        if progress.step not in STEPS:
            # A part of a step, such as the stem's making.
            return
        at = STEPS.index(progress.step)
        share = progress.done / progress.total if progress.total else 0.0
        for fault in [each for each in self._waiting if (STEPS.index(each.step), each.share) <= (at, share)]:
            self._waiting.remove(fault)
            if fault.node == ASKER and fault.kind == "pause":
                # Nobody can keep time while he is stopped.
                self._excused += fault.seconds
            await self._cluster.begin(fault)

    async def _end(self) -> tuple[str, dict[str, Any], str]:
        """Return the query's state, result and reason; where its daemon was killed, when that is back."""
        if self._ended is not None:
            data, error = self._ended.data, self._ended.error
            state = "cancelled" if error is not None and error.code == "cancelled" else data["outcome"]
            return state, data, error.message if error is not None else ""
        if not self._query_id:
            return "failed", {}, "the daemon was killed before it had taken the query on"
        heard, home, found = time.monotonic(), self._cluster.home(ASKER), None
        silent = True
        while found is None or found.state not in _ENDS:
            await asyncio.sleep(_POLL_SECONDS)
            try:
                async with connect(home) as client:
                    (found,) = (await client.queries(self._query_id)).queries
            except NotRunningError:
                silent = True
                continue
            # While the daemon was not there, whether for the first time or once more, nobody could answer.
            self._excused += time.monotonic() - heard if silent else 0.0
            heard, silent = time.monotonic(), False
        data = json.loads(found.result_json) if found.result_json else {}
        return found.state, data, data.get("reason", "") or found.state


def problems_of(end: TrialEnd, usual: TrialEnd, *, left: list[str]) -> tuple[str, ...]:
    """Return the rules that an end breaks, beside the `usual` one of the same question without faults.

    `left` are files that the query should not have left behind.
    """
    found = [f"it left {name} behind" for name in left]
    if end.state not in _GOOD_ENDS:
        found.append(f"it ended as {end.state}: {end.reason}")
    if end.state in ("refused", "failed") and not end.reason:
        found.append("it ended without a reason")
    if end.late > LATE_SECONDS:
        found.append(f"it ended {end.late:.1f} s after its deadline")
    if "the query failed:" in end.reason or _UNFORESEEN.search(end.reason):
        found.append(f"it broke: {end.reason}")
    if end.state == "accepted":
        found += _differences(end.data, usual.data)
    return tuple(found)


def _differences(data: dict[str, Any], usual: dict[str, Any]) -> list[str]:
    """Return where an accepted query differs from the usual one that the same teachers taught."""
    found = [
        f"evidence of {data['peer_names'][peer]} differs"
        for peer, evidence in data["masks"].items()
        if evidence and evidence != usual["masks"].get(peer)
    ]
    teachers = {each["name"]: each for each in data["teachers"] if each["used"]}
    before = {each["name"]: each for each in usual["teachers"] if each["used"]}
    if not set(data["classes"]) <= {name for each in teachers.values() for name in each["classes"]}:
        found.append("it was accepted, though nobody taught a class that it asked for")
    alike = {name for name in teachers if name in before and _lesson(teachers[name]) == _lesson(before[name])}
    found += [
        f"{name} taught {_lesson(teachers[name])}, usually {_lesson(before[name])}"
        for name in teachers.keys() & before.keys()
        if teachers[name]["classes"] == before[name]["classes"] and name not in alike
    ]
    if alike == before.keys() == teachers.keys():
        found += _worse(data["accuracy"], usual["accuracy"])
    return found


def _lesson(teacher: dict[str, Any]) -> tuple[tuple[str, ...], int, str]:
    """Return what a teacher brought, however often it was asked: classes, samples, digest."""
    return tuple(sorted(teacher["classes"])), teacher["samples"], teacher["digest"]


def _worse(accuracy: dict[str, Any], usual: dict[str, Any]) -> list[str]:
    """Return where another model came of the same lessons."""
    return [
        f"accuracy on {name} is {accuracy.get(name, {}).get('after')}, of the same lessons {item['after']}"
        for name, item in usual.items()
        if name not in accuracy or abs(accuracy[name]["after"] - item["after"]) > SAME
    ]


def _told(teacher: dict[str, Any]) -> str:
    return "used" if teacher["used"] else teacher["reason"] or "not asked"


def raise_unless_usable(usual: TrialEnd) -> None:
    """Raise QktError where even without a fault the query is not accepted."""
    if usual.state != "accepted":
        raise QktError(f"without any fault the query ended as {usual.state}: {usual.reason}")
