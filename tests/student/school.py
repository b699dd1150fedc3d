"""A classroom on a clock that jumps to whatever is due next."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from qkt_bench.network.virtual_time import run_in_virtual_time
from qkt_p2p.outcome import QueryOutcome, TeacherOutcome
from qkt_p2p.transport.client import Deadlines
from qkt_p2p.types import Query, TransferRecord
from tests.student.classroom import Classroom, peer_of


@dataclass
class School(Classroom):
    """A classroom on a virtual clock, with the patience of a real node; `now` is when the query ended."""

    now: float = 0.0

    def query(self, asked: Query) -> dict[str, TeacherOutcome]:
        """Return what each teacher did, by its name; raises what the query raises."""
        outcome = QueryOutcome(asked)
        try:
            run_in_virtual_time(self._run(outcome))
        finally:
            self.found = {teacher.name: teacher for teacher in outcome.teachers.values()}
        return self.found

    async def _run(self, outcome: QueryOutcome) -> None:
        try:
            await self.run(outcome)
        finally:
            self.now = asyncio.get_running_loop().time()

    def remember(self, name: str, *records: TransferRecord) -> None:
        self.shelf.transfers[peer_of(name)] = list(records)

    def said(self, text: str) -> list[str]:
        return [event.message for event in self.progress if text in event.message]


def used(teachers: Mapping[str, TeacherOutcome]) -> set[str]:
    return {name for name, teacher in teachers.items() if teacher.used}


NO_STALL = Deadlines(stall=5000.0)
"""What is slow, and not what stalls, is tried here."""
