"""Everybody who watches one query: each hears how it goes on, from the moment that they come."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from qkt_node.events import Ended, QueryEvent, Started

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from qkt_p2p.types import Progress, QueryId

MAX_UNHEARD: Final = 1024
"""Events kept for one who does not listen, some 200 KiB; then the oldest go, which newer ones outdate."""


@dataclass(eq=False, slots=True)
class _Seat:
    unheard: deque[Progress | Ended] = field(default_factory=lambda: deque(maxlen=MAX_UNHEARD))
    news: asyncio.Event = field(default_factory=asyncio.Event)


class Audience:
    """Those who watch one query; nobody has to."""

    def __init__(self, query_id: QueryId) -> None:
        self._query_id = query_id
        self._seats: set[_Seat] = set()
        self._last: Progress | Ended | None = None

    def tell(self, event: Progress | Ended) -> None:
        """Tell everybody; after `Ended` there is nothing more to tell."""
        self._last = event
        for seat in self._seats:
            seat.unheard.append(event)
            seat.news.set()

    def watch(self) -> AsyncGenerator[QueryEvent]:
        """Return the query's events: Started, what was told last, what is told from now on, up to Ended."""
        seat = _Seat()
        if self._last is not None:
            seat.unheard.append(self._last)
        self._seats.add(seat)
        return self._heard(seat)

    async def _heard(self, seat: _Seat) -> AsyncGenerator[QueryEvent]:
        try:
            yield Started(self._query_id)
            while True:
                while seat.unheard:
                    event = seat.unheard.popleft()
                    yield event
                    if isinstance(event, Ended):
                        return
                seat.news.clear()
                await seat.news.wait()
        finally:
            self._seats.discard(seat)
