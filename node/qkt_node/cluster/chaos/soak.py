"""Many schedules on one cluster, one after the other, and what they left behind."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import psutil

from qkt_node.cluster.chaos.cluster import ASKER, ChaosCluster
from qkt_node.cluster.chaos.leaks import Holdings, holdings, leaked
from qkt_node.cluster.chaos.schedule import Schedule, draw_schedule
from qkt_node.cluster.chaos.trial import Question, Trial, TrialEnd, problems_of, raise_unless_usable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence


@dataclass(slots=True)
class Soak:
    """What came of it so far; `leaks` compares each daemon at its first and its last schedule."""

    ends: list[TrialEnd] = field(default_factory=list)
    leaks: list[Leak] = field(default_factory=list)

    @property
    def broken(self) -> list[TrialEnd]:
        """The schedules whose query broke a rule."""
        return [end for end in self.ends if end.problems]

    @property
    def grown(self) -> list[Leak]:
        """The daemons that hold more than they should."""
        return [leak for leak in self.leaks if leak.grown]

    def by_kind(self) -> dict[str, Counter[str]]:
        """Count ends by each kind of fault that they saw."""
        found: dict[str, Counter[str]] = {}
        for end in self.ends:
            for kind in {fault.kind for fault in end.schedule.faults}:
                found.setdefault(kind, Counter())[end.state] += 1
        return dict(sorted(found.items()))

    def as_data(self) -> dict[str, Any]:
        """Return this for machines."""
        return {
            "schedules": [end.as_data() for end in self.ends],
            "ends": dict(Counter(end.state for end in self.ends)),
            "ends_by_fault": {kind: dict(ends) for kind, ends in self.by_kind().items()},
            "latest": max((round(end.late, 2) for end in self.ends), default=0.0),
            "broken": len(self.broken),
            "leaks": [asdict(leak) for leak in self.leaks],
        }


@dataclass(frozen=True, slots=True)
class Leak:
    """What one daemon held before its first schedule, halfway, and after its last; what of it is too much.

    A leak goes on from halfway as it began; what is made once and kept does not.
    """

    node: str
    schedules: int
    before: Holdings
    halfway: Holdings
    after: Holdings
    grown: tuple[str, ...]


class Soaking:
    """Asks the same `question` in one schedule after the other, and notes what each daemon holds."""

    def __init__(self, cluster: ChaosCluster, question: Question) -> None:
        self._cluster = cluster
        self._question = question
        self._held: dict[str, tuple[int, list[Holdings]]] = {}
        self.soak = Soak()

    async def run(self, seeds: Sequence[int], kinds: Sequence[str]) -> AsyncIterator[TrialEnd]:
        """Yield how each schedule ended; raises QktError where even a query without faults fails."""
        cluster = self._cluster
        usual = await Trial(cluster, self._question, Schedule(0, ())).run()
        raise_unless_usable(usual)
        # Once more, for what is made once and kept.
        await Trial(cluster, self._question, Schedule(0, ())).run()
        await self._look()
        for seed in seeds:
            schedule = draw_schedule(seed, asker=ASKER, teachers=cluster.teachers, kinds=kinds)
            end = await Trial(cluster, self._question, schedule).run()
            await cluster.settle()
            end = replace(end, problems=problems_of(end, usual, left=self._left()))
            self.soak.ends.append(end)
            await self._look()
            yield end
        self._compare()

    def _left(self) -> list[str]:
        """Return what the asker's queries left under models/."""
        names = (path.name for path in self._cluster.home(ASKER).models.iterdir())
        return sorted(name for name in names if not name.startswith(("v", "current")))

    async def _look(self) -> None:
        """Note what every daemon holds; one that was started anew begins anew."""
        for name, daemon in self._cluster.daemons.items():
            try:
                found = await holdings(self._cluster.home(name), daemon.pid)
            except (OSError, psutil.NoSuchProcess):
                # It was just started: there is nothing to compare yet.
                continue
            pid, held = self._held.get(name, (daemon.pid, []))
            if pid != daemon.pid:
                self._compare_one(name)
                held = []
            self._held[name] = daemon.pid, [*held, found]

    def _compare(self) -> None:
        for name in sorted(self._held):
            self._compare_one(name)

    def _compare_one(self, name: str) -> None:
        _, held = self._held[name]
        if len(held) > 1:
            before, halfway, after = held[0], held[len(held) // 2], held[-1]
            grown = tuple(leaked(before, after))
            self.soak.leaks.append(Leak(name, len(held) - 1, before, halfway, after, grown))
