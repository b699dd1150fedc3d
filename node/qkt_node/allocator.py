"""How this process's memory allocator treats buffers as large as chunks.

Left alone, glibc gives each back to the system when it is freed, and the system clears the pages of the next
one again: that took a third of a transfer's time (docs/transport.md).
"""

from __future__ import annotations

import ctypes
from typing import Final

from qkt_p2p.limits import MAX_MESSAGE_BYTES

_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
"""Numbers of glibc's malloc.h."""

KEPT_BYTES: Final = 4 * MAX_MESSAGE_BYTES
"""Freed memory that the process keeps for its next buffers: the chunks of a few streams."""


def reuse_buffers() -> None:
    """Have freed buffers of up to a message's size used again; for the start of a process that serves peers.

    Other allocators than glibc's are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 2 * MAX_MESSAGE_BYTES)
        mallopt(_TRIM_THRESHOLD, KEPT_BYTES)
