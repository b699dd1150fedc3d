"""An event loop whose clock jumps to whatever is due next: minutes of waiting pass in no time.

Only for work inside one process. Work takes no time by this clock, only waiting does, so figures of
what is sent and when are exact and repeatable, and nothing is learned of how fast this machine is.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")


class _JumpingSelector(selectors.SelectSelector):
    """Waits for nothing, and adds to `now` what it would have waited."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("everything waits and nothing is due: what is measured hangs")
            self.now += max(timeout, 0.0)
        return ready


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    def run_in_executor(self, executor: object, func: Callable[..., T], *args: object) -> asyncio.Future[T]:
        """Do the work at once: what another thread does would be nothing that is due."""
        done: asyncio.Future[T] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - whoever awaits it is told
            done.set_exception(error)
        return done


def run_in_virtual_time(main: Coroutine[None, None, T]) -> T:
    """Run `main` to its end, from second 0 on."""
    with asyncio.Runner(loop_factory=_VirtualLoop) as runner:
        return runner.run(main)
