"""What happens to a node's process, its disk, its clock and its certificate; each answer ends that again."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil

from qkt_node.control.client import connect
from qkt_p2p.errors import NotRunningError, NotTrustedError
from qkt_p2p.identity.authority import CERTIFICATE_LIFETIME, load_authority, sign_request
from qkt_p2p.identity.files import load_file
from qkt_p2p.identity.trust import IdentityFiles, install_bundle

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Awaitable, Callable

    from qkt_node.cluster.layout import ClusterFolder
    from qkt_node.home import Home

_RELOAD_SECONDS: Final = 2.0

FAKETIME: Final = next(
    (
        path
        for place in ("lib/*", "lib64", "lib")
        for path in Path("/usr").glob(f"{place}/faketime/libfaketime.so.1")
    ),
    Path("/usr/lib/faketime/libfaketime.so.1"),
)
"""What gives one process another clock: the package libfaketime, of Debian or of Fedora."""


async def kill(daemon: subprocess.Popen[bytes]) -> None:
    """Do what a machine does that loses power: the daemon and its worker are gone at once."""
    for process in _family(daemon):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    await asyncio.to_thread(daemon.wait)


def pause(daemon: subprocess.Popen[bytes]) -> Callable[[], Awaitable[None]]:
    """Stop the daemon and its worker where they are."""
    stopped = _family(daemon)
    for process in stopped:
        with suppress(psutil.NoSuchProcess):
            process.suspend()

    async def end() -> None:
        for process in stopped:
            with suppress(psutil.NoSuchProcess):
                process.resume()

    return end


def fill_disk(daemon: subprocess.Popen[bytes]) -> Callable[[], Awaitable[None]]:
    """Let every write to a file fail, of the daemon, of its worker, and of those that they start."""
    limited = _family(daemon)
    for process in limited:
        _limit_files(process, 0)

    async def end() -> None:
        for process in {*limited, *_family(daemon)}:
            _limit_files(process, psutil.RLIM_INFINITY)

    return end


async def certify(folder: ClusterFolder, home: Home, *, seconds: float) -> Callable[[], Awaitable[None]]:
    """Give a node a certificate that ends after so many seconds, and at last one that lives as usual."""
    await _install(folder, home, timedelta(seconds=seconds))
    return lambda: _install(folder, home, CERTIFICATE_LIFETIME)


def wrong_clock(seconds: float) -> dict[str, str]:
    """Return the environment of a process whose clock, but not whose stopwatch, is wrong by so much."""
    return {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME": f"{seconds:+.0f}s",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


async def _install(folder: ClusterFolder, home: Home, lifetime: timedelta) -> None:
    request, now = load_file(IdentityFiles(home.identity).request), datetime.now(UTC)
    signed = sign_request(load_authority(folder.authority), request, now=now, lifetime=lifetime)
    install_bundle(home.identity, signed.bundle, now=now)
    # A node that is down or stopped reads it later by itself; one too slow to show it keeps the one before.
    with suppress(NotTrustedError, NotRunningError, TimeoutError):
        async with asyncio.timeout(_RELOAD_SECONDS), connect(home) as client:
            await client.reload_trust()


def _family(daemon: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Return a daemon and its children, none where it has ended."""
    try:
        process = psutil.Process(daemon.pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _limit_files(process: psutil.Process, size: int) -> None:
    with suppress(psutil.NoSuchProcess):
        _, hardest = process.rlimit(psutil.RLIMIT_FSIZE)
        process.rlimit(psutil.RLIMIT_FSIZE, (hardest if size == psutil.RLIM_INFINITY else size, hardest))
