"""Banks in the making: what the worker makes for peers, once for all who ask for the same."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qkt_node.worker.operations import SYNTHESIZE, TeachOrder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from qkt_node.deadly import DeadlyOrders
    from qkt_node.worker.client import Worker


@dataclass(slots=True)
class _Shared:
    """One bank in the making and how many wait for it."""

    task: asyncio.Task[str]
    askers: int = 0


class Making:
    """Has the worker make banks, one at a time, so that who waits in line and gives up leaves it at once."""

    def __init__(self, worker: Worker, deadly: DeadlyOrders) -> None:
        self._worker = worker
        self._deadly = deadly
        self._free = asyncio.Lock()
        self._shared: dict[TeachOrder, _Shared] = {}

    @asynccontextmanager
    async def bank(self, order: TeachOrder) -> AsyncIterator[asyncio.Task[str]]:
        """Give the task that returns the bank's key; its work ends when the last who waits for it leaves."""
        shared = self._shared.get(order)
        if shared is None:
            task = asyncio.create_task(self._make(order), name="make a bank")
            shared = self._shared[order] = _Shared(task)
        shared.askers += 1
        try:
            yield shared.task
        finally:
            shared.askers -= 1
            if not shared.askers:
                # Whoever comes from now on begins anew, whatever this one still does.
                del self._shared[order]
                shared.task.cancel()
                await asyncio.wait({shared.task})

    async def _make(self, order: TeachOrder) -> str:
        async with self._free:
            # Once for all who wait: it is one death.
            with self._deadly.watched(order) as progress:
                return await self._worker.call(SYNTHESIZE, order, progress)
