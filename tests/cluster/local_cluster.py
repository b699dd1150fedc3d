"""Real daemons for tests: started here, watched through their control sockets, always stopped."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import psutil

from qkt_node.cluster.create import create_cluster
from qkt_node.cluster.processes import start_daemon, stop_daemons
from qkt_node.control.client import connect
from qkt_p2p.errors import NotRunningError, QktError
from qkt_p2p.outcome import STEPS
from qkt_p2p.types import Progress

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from pathlib import Path

    from qkt_node.cluster.create import ClusterPlan
    from qkt_node.cluster.layout import Cluster, ClusterFolder
    from qkt_node.control.client import ControlClient
    from qkt_node.home import Home

T = TypeVar("T")

WAIT_SECONDS = 60.0
WORKER = "qkt_node.worker.process"
WORKER_STAYS = {"QKT_NODE_WORKER_IDLE_SECONDS": "3600"}
"""A worker that is there stays there: tests need not wait for another one."""


def wait_until(condition: Callable[[], T | None], what: str, *, seconds: float = WAIT_SECONDS) -> T:
    """Poll until `condition` returns something true, and return that: the one place where tests wait."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.02)
    return found


@dataclass(frozen=True)
class Answer:
    """How one command line ended."""

    exit_code: int
    envelope: dict[str, Any]
    stderr: str

    @property
    def data(self) -> dict[str, Any]:
        """What the verb answered."""
        found: dict[str, Any] = self.envelope["data"]
        return found

    @property
    def error(self) -> dict[str, str]:
        """What went wrong; fails where it names no fix."""
        found: dict[str, str] = self.envelope["error"]
        assert found["fix"], found
        assert self.envelope["exit_code"] == self.exit_code
        return found


def command(*arguments: object) -> list[str]:
    """Return a command line of this installation."""
    return [sys.executable, "-m", "qkt_node", *map(str, arguments)]


def qkt(*arguments: object, **environ: str) -> Answer:
    """Run one command line to its end; no traceback may reach its user."""
    done = subprocess.run(
        [*command(*arguments), "--format", "json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=2 * WAIT_SECONDS,
        env={**os.environ, **environ},
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert done.stdout.count("\n") == 1, done.stdout + done.stderr
    return Answer(done.returncode, json.loads(done.stdout), done.stderr)


class WatchedQuery:
    """A `query`, or `queries watch`, in a process of its own whose events can be waited for one by one."""

    def __init__(self, home: Home, *arguments: object, verb: Sequence[str] = ("query",)) -> None:
        self._process = subprocess.Popen(
            [*command(*verb, "--home", home.root, *arguments), "--format", "jsonl"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.query_id = ""

    def __enter__(self) -> WatchedQuery:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def _lines(self) -> Iterator[dict[str, Any]]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            yield json.loads(line)

    def wait_for(self, step: str, *, done: float = 0.0) -> None:
        """Return when the query has reached `step` and done that much of it."""
        for event in self._lines():
            if event.get("event") == "started":
                self.query_id = event["query_id"]
            elif event.get("step") == step and event["done"] >= done:
                return
        raise AssertionError(f"the query ended before {step}")

    def interrupt(self) -> None:
        """Do what Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)

    def end(self) -> Answer:
        """Return how the command line ended."""
        last = list(self._lines())[-1]
        _, stderr = self._process.communicate(timeout=WAIT_SECONDS)
        assert "Traceback" not in stderr, stderr
        return Answer(self._process.returncode, last, stderr)


def ask(home: Home, question: Callable[[ControlClient], Awaitable[T]]) -> T | None:
    """Return a daemon's answer over its control socket, None where no daemon answers."""

    async def asking() -> T:
        async with connect(home) as client:
            return await question(client)

    try:
        return asyncio.run(asking())
    except NotRunningError:
        return None


def reach(home: Home, query_id: str, step: str, *, done: float = 0.0) -> None:
    """Return when a query has reached `step`, or a later one, and done that much of it."""

    later = (*STEPS, "report")[STEPS.index(step) + 1 :]

    async def reached(client: ControlClient) -> bool:
        async for event in client.watch_query(query_id):
            if isinstance(event, Progress) and (
                event.step in later or (event.step == step and event.done >= done)
            ):
                return True
        return True

    wait_until(lambda: ask(home, reached), f"{query_id} reaches {step}")


def live_peers(home: Home) -> int:
    """Return how many peers a daemon reaches, -1 where it does not answer."""
    status = ask(home, lambda client: client.status())
    return -1 if status is None else status.live_peers


def log_events(home: Home, name: str) -> list[dict[str, Any]]:
    """Return the events of that name in a daemon's log so far."""
    found = []
    for line in (home.root / "logs" / "daemon.log").read_text().splitlines():
        with suppress(ValueError):
            event = json.loads(line)
            if event.get("event") == name:
                found.append(event)
    return found


@dataclass
class LocalCluster:
    """A cluster whose daemons are children of the tests, so that tests see how they end."""

    folder: ClusterFolder
    plan: Cluster
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def home(self, name: str) -> Home:
        """Return the home of a node."""
        return self.folder.home(name)

    def ensure_up(self) -> None:
        """Start whatever does not run, and return when all nodes see each other."""
        for node in self.plan.nodes:
            daemon = self.daemons.get(node.name)
            if daemon is None or daemon.poll() is not None:
                self.start(node.name)
        for node in self.plan.nodes:
            self.wait_connected(node.name)

    def start(self, name: str) -> None:
        """Start one daemon."""
        self.daemons[name] = start_daemon(self.folder, name, environ=WORKER_STAYS)

    def wait_connected(self, name: str) -> None:
        """Return when a node reaches all others."""
        others = len(self.plan.nodes) - 1
        wait_until(lambda: live_peers(self.home(name)) == others, f"{name} reaches its peers")

    def worker(self, name: str) -> psutil.Process:
        """Return the worker process of a node, which must have one."""

        def find() -> psutil.Process | None:
            children = psutil.Process(self.daemons[name].pid).children()
            return next((each for each in children if WORKER in _arguments(each)), None)

        return wait_until(find, f"{name} has a worker")

    def warm_worker(self, name: str) -> psutil.Process:
        """Return the worker of a node; where there is none, a peer's question makes the node start it."""
        if not psutil.Process(self.daemons[name].pid).children():
            asker = next(node.name for node in self.plan.nodes if node.name != name)
            self.query(asker, "--classes", "nobody's", "--deadline", "60s")
        return self.worker(name)

    def kill(self, name: str) -> None:
        """Kill a daemon and its worker at once, as a machine that loses power does."""
        processes = [psutil.Process(self.daemons[name].pid)]
        processes += processes[0].children(recursive=True)
        for process in processes:
            process.kill()
        self.daemons[name].wait(WAIT_SECONDS)

    def put_back(self, name: str, copy: Path) -> None:
        """Give a node the home that it had when it was copied; its daemon is killed."""
        self.kill(name)
        shutil.rmtree(self.home(name).root)
        shutil.copytree(copy, self.home(name).root, symlinks=True)

    def query(self, name: str, *arguments: object) -> Answer:
        """Run one query of a node to its end, as a trial: models stay as they are."""
        return qkt("query", "--home", self.home(name).root, "--trial", *arguments)

    def taught_by_both(self, name: str) -> str:
        """Return a class that a node lacks and that two others have data of."""
        others = [node for node in self.plan.nodes if node.name != name]
        return next(
            each for each in self.plan.lacking(name) if sum(each in other.classes for other in others) >= 2
        )

    def own_and_taught(self, name: str) -> str:
        """Return a class that a node has data of and that another one has, too."""
        others = {each for node in self.plan.nodes if node.name != name for each in node.classes}
        return next(each for each in self.plan.node(name).classes if each in others)

    def close(self) -> None:
        """Stop every process, whatever happened to it."""
        stop_daemons(self.folder)
        for daemon in self.daemons.values():
            daemon.wait(WAIT_SECONDS)
        if left := processes_below(self.folder.root):
            raise QktError(f"left behind: {left}")


def processes_below(root: Path) -> list[psutil.Process]:
    """Return the daemons and the workers that were started on a home below `root`, removed or not."""
    marker = f"{root.resolve()}/"
    found = []
    for process in psutil.process_iter():
        arguments = _arguments(process)
        if {WORKER, "start"} & {*arguments} and any(each.startswith(marker) for each in arguments):
            found.append(process)
    return found


def _arguments(process: psutil.Process) -> list[str]:
    """Return a process's command line, nothing where it has just ended."""
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []


@contextmanager
def running_cluster(folder: ClusterFolder, plan: ClusterPlan) -> Iterator[LocalCluster]:
    """Make a cluster and run it for the length of a block."""
    cluster = LocalCluster(folder, create_cluster(folder, plan))
    try:
        cluster.ensure_up()
        yield cluster
    finally:
        cluster.close()


@contextmanager
def running(home: Home, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """Run a daemon on a home for the length of a block, with its log in logs/; yields once it is ready."""
    log_file = home.root / "logs" / "daemon.log"
    log_file.parent.mkdir(exist_ok=True)
    with log_file.open("w") as log:
        daemon = subprocess.Popen(
            command("start", "--home", home.root),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, **environ},
        )
    try:
        assert daemon.stdout is not None
        assert daemon.stdout.readline().startswith("ready "), log_file.read_text()
        yield daemon
    finally:
        daemon.terminate()
        daemon.communicate(timeout=WAIT_SECONDS)
