"""Starts the daemons of a cluster, waits until they see each other, and stops whatever is left of them."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil

from qkt_node.config import without_settings
from qkt_node.control.client import connect
from qkt_p2p.errors import ConfigError, DeadlineError, NotRunningError, QktError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qkt_node.cluster.layout import Cluster, ClusterFolder

UP_SECONDS: Final = 300.0
"""Longest wait until all nodes have trained their models and see each other."""

STOP_SECONDS: Final = 8.0
"""A daemon that was told to drain is killed after this long."""

_POLL_SECONDS: Final = 0.2


PROGRAM: Final = "qkt_node"
"""The module that is a node's program."""


def start_daemon(
    folder: ClusterFolder, name: str, *, program: str = PROGRAM, environ: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start one daemon in a session of its own; its log is logs/daemon.log in its home.

    `environ` is added to this process's, in which the settings of this machine's own node do not count.
    """
    home = folder.home(name)
    log_file = home.root / "logs" / "daemon.log"
    log_file.parent.mkdir(exist_ok=True)
    with log_file.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", program, "start", "--home", str(home.root)],
            env={**without_settings(os.environ), **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


async def start_cluster(
    folder: ClusterFolder,
    cluster: Cluster,
    progress: Callable[[int, int, str], None],
    *,
    program: str = PROGRAM,
) -> dict[str, subprocess.Popen[bytes]]:
    """Start all daemons and return them by name when each sees all others.

    Raises QktError with the last words of one that died, DeadlineError after UP_SECONDS.
    """
    daemons = {node.name: start_daemon(folder, node.name, program=program) for node in cluster.nodes}
    try:
        async with asyncio.timeout(UP_SECONDS):
            await _wait_until_connected(folder, daemons, progress)
    except TimeoutError as error:
        raise DeadlineError(
            f"the cluster did not come up within {UP_SECONDS:.0f} s", fix=f"see {folder.root}/*/logs"
        ) from error
    return daemons


async def _wait_until_connected(
    folder: ClusterFolder,
    daemons: dict[str, subprocess.Popen[bytes]],
    progress: Callable[[int, int, str], None],
) -> None:
    waiting = set(daemons)
    while waiting:
        for name in sorted(waiting):
            if (code := daemons[name].poll()) is not None:
                raise QktError(f"{name} ended with exit code {code}: {_last_words(folder, name)}")
            if await live_peers(folder, name) >= len(daemons) - 1:
                waiting.discard(name)
                progress(len(daemons) - len(waiting), len(daemons), name)
        if waiting:
            await asyncio.sleep(_POLL_SECONDS)


async def live_peers(folder: ClusterFolder, name: str) -> int:
    """Return how many peers a daemon has, -1 where it does not answer yet."""
    try:
        async with connect(folder.home(name)) as client:
            return (await client.status()).live_peers
    except NotRunningError:
        return -1


def _last_words(folder: ClusterFolder, name: str) -> str:
    lines = (folder.home(name).root / "logs" / "daemon.log").read_text(errors="replace").splitlines()
    return " | ".join(line for line in lines[-4:] if line)


def daemons_of(folder: ClusterFolder) -> list[psutil.Process]:
    """Return the running daemons of a cluster's nodes, also those whose starter was killed.

    None where the folder has no cluster's mark: what runs below it is somebody else's.
    """
    if not folder.marker.exists():
        return []
    found = []
    for process in psutil.process_iter():
        try:
            arguments = process.cmdline()
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
        home = _home_of(arguments)
        if home is not None and home.parent == folder.root.absolute():
            found.append(process)
    return found


def _home_of(arguments: list[str]) -> Path | None:
    """Return the home on which such a command line runs a daemon, None where it does not."""
    match arguments:
        # As `start_daemon` has it, also with the program of a node that lies.
        case [_, "-m", program, "start", "--home", home, *_] if program.partition(".")[0] == PROGRAM:
            return Path(home)
        # As an owner starts a node again.
        case [_, script, "start", "--home", home, *_] if Path(script).name == "qkt-node":
            return Path(home)
        case _:
            return None


def stop_daemons(folder: ClusterFolder) -> int:
    """Drain, and after a while kill, all daemons of a cluster and their workers; return how many."""
    daemons = daemons_of(folder)
    families = [member for daemon in daemons for member in (daemon, *_children(daemon))]
    for daemon in daemons:
        _signal(daemon.terminate)
    psutil.wait_procs(daemons, timeout=STOP_SECONDS)
    for member in families:
        _signal(member.kill)
    psutil.wait_procs(families, timeout=STOP_SECONDS)
    return len(daemons)


def remove_files(folder: ClusterFolder) -> None:
    """Remove everything that the cluster wrote, also where its creation was cut off.

    Raises ConfigError where something cannot be removed; a folder without a cluster's mark is left alone.
    """
    if not folder.marker.exists():
        return
    try:
        for entry in folder.root.iterdir():
            if entry != folder.marker:
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        # Last: until then the rest can be removed by another attempt.
        folder.marker.unlink()
        folder.root.rmdir()
    except OSError as error:
        raise ConfigError(f"cannot remove {error.filename}: {error.strerror}") from error


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _signal(send: Callable[[], None]) -> None:
    try:
        send()
    except psutil.NoSuchProcess:
        return
