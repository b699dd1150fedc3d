"""For every test: a disk that is really full after two megabytes, patience on slow machines, a log that stays
the tests' own, and in which process it runs.
"""

from __future__ import annotations

# First, as in a daemon: structlog with rich would spend seconds on the locals of every traceback it prints.
from qkt_node import log as _log  # noqa: F401  # isort: skip

import os
import resource
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

from tests.netns.told import BETWEEN_HOSTS, BetweenHosts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

# Threads cost the small models of the tests more than they save; read when torch is loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A slow or busy machine is no reason for a property to fail.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# A shell that runs the tests in the background has them ignore interrupts, and so whatever they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

DAEMONS = ("tests/bench/", "tests/cluster/", "tests/netns/")
"""Whose tests start daemons, or need the machine in other ways."""


class DaemonsApart(LoadFileScheduling):  # type: ignore[misc]
    """Gives all tests that start daemons to one process, which begins with them; other files to any."""

    def _split_scope(self, nodeid: str) -> str:
        return "daemons" if nodeid.startswith(DAEMONS) else str(super()._split_scope(nodeid))


@pytest.fixture(scope="session", autouse=True)
def tests_log() -> Iterator[None]:
    """Keep this process's log as tests capture it: verbs that run here would make it theirs for good."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qkt_node.log.configure_logging", lambda *_: None)
        yield


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(BetweenHosts(), BETWEEN_HOSTS)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put those first that take longest; otherwise the order stays as random as it was."""
    items.sort(key=lambda item: not item.nodeid.startswith(DAEMONS))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> DaemonsApart:
    return DaemonsApart(config, log)


SMALL_DISK_BYTES = 2 * 1024 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder in which a write beyond 2 MiB fails in the operating system.

    Where mounting is allowed, a file system of that size is full; elsewhere each file has that limit.
    """
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_BYTES}", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode == 0:
        yield folder
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        return
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL_DISK_BYTES, before[1]))
    yield folder
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
