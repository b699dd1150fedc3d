"""The processes of a rival's ends: what they are told and what they say, one line at a time."""

from __future__ import annotations

import json
import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HERE: Final = Path(__file__).parent
Taken = dict[str, float]
"""Of one exchange, or the mean of several: seconds, and processor seconds of each process by its part."""


@contextmanager
def end(python: str, script: str, words: Sequence[str], *, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run one end until the block ends; it is ready at its beginning."""
    command = [python, str(HERE / script), *words]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder, text=True
    ) as process:
        try:
            heard(process)
            yield process
        finally:
            process.kill()


def told(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Have the end make an exchange, and return what it says of it."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return heard(process)


def heard(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Return the next object that the end says; what others write to its output is passed over."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("{"):
            answer: dict[str, Any] = json.loads(line)
            return answer
    raise RuntimeError(f"an end failed: {process.args!r}")


def processor_seconds(process: subprocess.Popen[str]) -> float:
    """Return what a process has used so far."""
    times = psutil.Process(process.pid).cpu_times()
    return float(times.user + times.system)


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port
