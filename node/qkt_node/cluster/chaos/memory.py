"""What this process still uses of its memory, which is not what the system counts.

Resident memory also holds what was freed and is kept for the next buffers (allocator.py), so it grows for a
while where nothing leaks.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from typing import Final

_FIELDS: Final = (
    *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
    *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
)


class _Mallinfo(ctypes.Structure):
    """`struct mallinfo2` of glibc's malloc.h: `uordblks` of its heaps and `hblkhd` beside them are in use."""

    _fields_ = [(name, ctypes.c_size_t) for name in _FIELDS]


def used_blocks() -> int:
    """Return how many blocks of memory Python's objects have, without those that wait to be collected."""
    gc.collect()
    return sys.getallocatedblocks()


def used_mebibytes() -> float:
    """Return the MiB that malloc gave out and did not get back; 0 where there is no glibc 2.33 or newer."""
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo is None:
        return 0.0
    mallinfo.restype = _Mallinfo
    found: _Mallinfo = mallinfo()
    used: int = found.uordblks + found.hblkhd
    return round(used / 2**20, 2)
