"""Processor seconds and memory of this process; of Linux, which alone tells a peak since a moment."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

_STATUS: Final = Path("/proc/self/status")
_FORGET_PEAK: Final = "5"
"""What Linux takes for "the peak is what is resident now": proc(5), clear_refs."""


class Meter:
    """Counts from when it is made."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text(_FORGET_PEAK)
        self._idle = _resident("VmRSS")
        self._processor = time.process_time()

    def read(self) -> dict[str, float]:
        """Return processor seconds, user's and system's, and resident bytes: before, and most over that."""
        return {
            "processor_seconds": time.process_time() - self._processor,
            "idle_bytes": self._idle,
            "peak_bytes": _resident("VmHWM") - self._idle,
        }


def _resident(name: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024
