"""The event loop of a daemon: uvloop's, on which grpc.aio carries more with the same processor time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import uvloop

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


def serve(work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` returns, on an event loop of its own; for a process that serves peers."""
    return uvloop.run(work)
