"""Orders of peers in which the worker dies: repeating them is refused, for a while."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import structlog

from qkt_p2p.errors import PeerRefusedError, WorkerDiedError
from qkt_p2p.limits import DEADLY_ORDER_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from qkt_p2p.seams import ReportProgress
    from qkt_p2p.types import Progress

log = structlog.get_logger(__name__)

_DEATHS: Final = 2
"""One may be chance, or another's doing: whatever needs much memory beside it."""

_REMEMBERED: Final = 256
"""Orders; the first to have failed is forgotten first."""

_REFUSAL: Final = "this node's worker died twice of this request, which is not tried again for a while"


class DeadlyOrders:
    """Counts the worker's deaths by what it was doing; `clock` tells seconds and never goes back.

    An order is known by its digest, for it may hold a whole stem.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._deaths: OrderedDict[str, tuple[int, float]] = OrderedDict()

    @contextmanager
    def watched(self, order: object) -> Iterator[ReportProgress]:
        """Give what the worker tells its progress on `order`, which the block has it do.

        Raises PeerRefusedError where the order was deadly twice of late, or turns out to be. One that the
        worker had not begun is not to blame.
        """
        key = hashlib.sha256(repr(order).encode()).hexdigest()
        if self._deaths_of(key) >= _DEATHS:
            raise PeerRefusedError(_REFUSAL)
        begun = False

        def note(progress: Progress) -> None:
            nonlocal begun
            del progress
            begun = True

        try:
            yield note
        except WorkerDiedError as error:
            if begun and self._count(key) >= _DEATHS:
                log.error("order_refused", deaths=_DEATHS, error=error.message, fix=error.fix)
                raise PeerRefusedError(_REFUSAL) from error
            raise
        else:
            self._deaths.pop(key, None)

    def _deaths_of(self, key: str) -> int:
        deaths, last = self._deaths.get(key, (0, 0.0))
        return deaths if self._clock() < last + DEADLY_ORDER_SECONDS else 0

    def _count(self, key: str) -> int:
        deaths = self._deaths_of(key) + 1
        self._deaths[key] = deaths, self._clock()
        while len(self._deaths) > _REMEMBERED:
            self._deaths.popitem(last=False)
        return deaths
