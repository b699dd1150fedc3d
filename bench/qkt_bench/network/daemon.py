"""What a daemon costs while nobody asks anything, and how soon it is there.

    python -m qkt_bench.network.daemon --out bench/results/daemon.json

Two nodes on this machine's loopback, with models that exist already; one of them is started again and again.
Ready: from the start of its process to its ready line. Idle: it has met its peer, and its worker has ended.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any, Final

import psutil

from qkt_node.cluster.create import ClusterPlan, create_cluster
from qkt_node.cluster.layout import ClusterFolder
from qkt_node.cluster.processes import start_cluster, stop_daemons
from qkt_node.config import without_settings
from qkt_node.control.client import connect
from qkt_node.versions import versions
from qkt_p2p.errors import NotRunningError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qkt_node.home import Home

PLAN: Final = ClusterPlan(
    nodes=2, classes_per_node=5, source="digits", model="cnn", seed=0, samples_per_class=40
)
WAIT_SECONDS: Final = 60.0
SETTLE_SECONDS: Final = 3.0
MIB: Final = 1024 * 1024


def main() -> None:
    """Measure, print, and store where asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeat", type=int, default=5, help="how often each figure is taken")
    parser.add_argument("--out", type=Path, help="file to store the figures in")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="qkt-bench-") as folder:
        figures = measured(ClusterFolder(Path(folder).resolve() / "cluster"), options.repeat)
    text = json.dumps(figures, indent=2)
    sys.stdout.write(f"{text}\n")
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(f"{text}\n")


def measured(folder: ClusterFolder, repeat: int) -> dict[str, Any]:
    """Return all figures with what they were taken on."""
    cluster = create_cluster(folder, PLAN)
    try:
        daemons = asyncio.run(start_cluster(folder, cluster, lambda done, total, name: None))
        daemons["node-1"].terminate()
        daemons["node-1"].wait(WAIT_SECONDS)
        home = folder.home("node-1")
        plain = [_started(home, mdns=False) for _ in range(repeat)]
        with_mdns = [_started(home, mdns=True) for _ in range(repeat)]
    finally:
        stop_daemons(folder)
    return {
        "help_seconds": _summary([_help_seconds() for _ in range(repeat)]),
        "without_mdns": _summaries(plain),
        "with_mdns": _summaries(with_mdns),
        "repeat": repeat,
        "cores": os.cpu_count(),
        "versions": versions(),
    }


def _started(home: Home, *, mdns: bool) -> dict[str, float]:
    """Start the node once and return its figures."""
    with _daemon(home, mdns=mdns) as (process, ready_seconds):
        asyncio.run(_until_idle(home))
        memory = process.memory_full_info()
        return {
            "ready_seconds": ready_seconds,
            "resident_mib": memory.rss / MIB,
            "proportional_mib": memory.pss / MIB,
            "unique_mib": memory.uss / MIB,
        }


@contextmanager
def _daemon(home: Home, *, mdns: bool) -> Iterator[tuple[psutil.Process, float]]:
    environ = {"QKT_NODE_WORKER_IDLE_SECONDS": "0.001", "QKT_DISCOVERY_MDNS": str(mdns)}
    begun = time.perf_counter()
    daemon = subprocess.Popen(
        [sys.executable, "-m", "qkt_node", "start", "--home", str(home.root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**without_settings(os.environ), **environ},
    )
    try:
        assert daemon.stdout is not None
        if not daemon.stdout.readline():
            raise RuntimeError(f"the daemon on {home.root} does not start")
        yield psutil.Process(daemon.pid), time.perf_counter() - begun
    finally:
        daemon.terminate()
        daemon.communicate(timeout=WAIT_SECONDS)


async def _until_idle(home: Home) -> None:
    """Return when the node has met its peer and runs no worker; what begins late has begun by then."""
    async with asyncio.timeout(WAIT_SECONDS):
        # mDNS publishes for about a second after the node is ready.
        await asyncio.sleep(SETTLE_SECONDS)
        while not await _is_idle(home):  # noqa: ASYNC110 - the event is another process's
            await asyncio.sleep(0.05)


async def _is_idle(home: Home) -> bool:
    try:
        async with connect(home) as client:
            status = await client.status()
    except NotRunningError:
        return False
    return status.live_peers == PLAN.nodes - 1 and status.worker_state == "stopped"


def _help_seconds() -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-m", "qkt_node", "--help"], capture_output=True, check=True)
    return time.perf_counter() - begun


def _summaries(taken: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    return {key: _summary([figures[key] for figures in taken]) for key in taken[0]}


def _summary(values: list[float]) -> dict[str, float]:
    return {"mean": round(mean(values), 3), "least": round(min(values), 3), "most": round(max(values), 3)}


if __name__ == "__main__":
    main()
