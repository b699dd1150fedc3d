"""How long a sender waits for the reader of its stream."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from qkt_p2p.limits import SLOWEST_READER_BYTES_PER_SECOND

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Leeway:
    """Lasts `seconds` of waiting, over one stream; what a reader takes and pauses of the sender give it back.

    So neither a reader that takes nothing nor one that takes a little now and then can hold for long what
    the stream holds. No part may take longer than `seconds`, however large it is. None waits for ever.
    """

    def __init__(self, seconds: float | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = seconds
        self._left = seconds or 0.0
        self._clock = clock
        self._at = clock()

    async def wait(self, sending: Awaitable[None], size: int) -> None:
        """Wait until `size` bytes are taken; raises TimeoutError once the time is up."""
        if self._most is None:
            await sending
            return
        began = self._clock()
        self._grow(self._most, began - self._at)
        async with asyncio.timeout(self._left):
            await sending
        self._at = self._clock()
        self._left -= self._at - began
        self._grow(self._most, size / SLOWEST_READER_BYTES_PER_SECOND)

    def _grow(self, most: float, seconds: float) -> None:
        self._left = min(most, self._left + seconds)
