"""Ctrl-C during a query: the daemon is asked to cancel it, and its end is waited for."""

import asyncio
import signal
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from qkt_node.control.client import ControlClient

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Within this block the first SIGINT or SIGTERM cancels the query, a second one the block's task."""

    def __init__(self, client: "ControlClient") -> None:
        self._client = client
        self._query_id = ""
        self._signalled = False
        self._cancelling: asyncio.Task[str] | None = None
        self._waiting: asyncio.Task[object] | None = None

    async def __aenter__(self) -> Self:
        self._waiting = asyncio.current_task()
        for number in _SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, self._signal)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in _SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(number)
        if self._cancelling is not None:
            await asyncio.gather(self._cancelling, return_exceptions=True)

    def begun(self, query_id: str) -> None:
        """Tell which query runs; one that was interrupted before it had an identifier is cancelled now."""
        self._query_id = query_id
        self._cancel()

    def _signal(self) -> None:
        if self._signalled and self._waiting is not None:
            self._waiting.cancel()
            if self._cancelling is not None:
                # The daemon was told; what is not waited for any more is that it is done.
                self._cancelling.cancel()
        self._signalled = True
        self._cancel()

    def _cancel(self) -> None:
        if self._signalled and self._query_id and self._cancelling is None:
            self._cancelling = asyncio.create_task(self._client.cancel_query(self._query_id))
