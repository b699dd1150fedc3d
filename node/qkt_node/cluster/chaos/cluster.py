"""A cluster that is in for faults: its daemons, the ways to them, and whatever befalls either."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from qkt_node.cluster.chaos import signals
from qkt_node.cluster.chaos.dribble import Dribble
from qkt_node.cluster.chaos.lies import LIES, Lie
from qkt_node.cluster.chaos.node import tell
from qkt_node.cluster.chaos.proxy import NETWORK, Proxy, impose
from qkt_node.cluster.create import ClusterPlan, create_cluster, free_addresses
from qkt_node.cluster.processes import live_peers, start_cluster, start_daemon, stop_daemons
from qkt_node.config import load_config
from qkt_node.config_text import config_text
from qkt_p2p.errors import QktError
from qkt_p2p.identity.files import save_file
from qkt_p2p.seeds import derived_seed

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Awaitable, Callable

    from qkt_node.cluster.chaos.schedule import Fault, Schedule
    from qkt_node.cluster.layout import Cluster, ClusterFolder
    from qkt_node.home import Home

    End = Callable[[], Awaitable[None]]

PROGRAM: Final = "qkt_node.cluster.chaos.node"
ASKER: Final = "node-1"
SETTLE_SECONDS: Final = 90.0
"""Longest wait until a cluster is whole again after its faults."""

_POLL_SECONDS: Final = 0.1
_TELL_SECONDS: Final = 2.0
_WORKER_IDLE_SECONDS: Final = 3600.0
"""A query need not wait for a worker that the one before it had."""


@dataclass(slots=True)
class _Befallen:
    fault: Fault
    end: End


class ChaosCluster:
    """Nodes behind proxies: `begin` lets a fault befall one, `settle` ends all and mends what broke."""

    def __init__(self, folder: ClusterFolder, plan: ClusterPlan) -> None:
        self.folder = folder
        self.plan = plan
        self.cluster: Cluster = create_cluster(folder, plan)
        self.teachers = tuple(node.name for node in self.cluster.nodes if node.name != ASKER)
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._ways: dict[str, Proxy] = {}
        self._befallen: list[_Befallen] = []
        self._work: set[asyncio.Task[None]] = set()
        self._outdated: set[str] = set()

    def home(self, name: str) -> Home:
        """Return the home of a node."""
        return self.folder.home(name)

    async def start(self, progress: Callable[[int, int, str], None]) -> None:
        """Put a way in front of each node, start all, and return when each sees all others."""
        for node, behind in zip(self.cluster.nodes, free_addresses(len(self.cluster.nodes)), strict=True):
            self._ways[node.name] = Proxy(behind, random.Random())  # noqa: S311 - see `reseed`
            await self._ways[node.name].start(node.address)
            self._move(node.name, behind, announced=node.address)
        self.daemons = await start_cluster(self.folder, self.cluster, progress, program=PROGRAM)

    async def stop(self) -> None:
        """Stop every process and every way."""
        for fault in self._befallen:
            # What cannot end any more ends with its process.
            with suppress(QktError, OSError):
                await fault.end()
        stop_daemons(self.folder)
        for way in self._ways.values():
            await way.stop()

    def reseed(self, schedule: Schedule) -> None:
        """Let what is left to chance follow from a schedule's seed, and from nothing before it."""
        for name, way in self._ways.items():
            way.generator = random.Random(derived_seed(schedule.seed, "way", name))  # noqa: S311

    async def begin(self, fault: Fault) -> None:
        """Let a fault befall its node; it ends when its time has come, or with `settle`."""
        befallen = _Befallen(fault, await self._befall(fault))
        self._befallen.append(befallen)
        if fault.seconds or (fault.node == ASKER and fault.kind == "kill"):
            self._later(fault.seconds, befallen)

    async def settle(self) -> None:
        """End all faults, start what died, and return when the asker sees all others; raises QktError."""
        for task in self._work:
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        for befallen in list(self._befallen):
            await self._end(befallen)
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                await self._whole()
        except TimeoutError as error:
            raise QktError(
                f"{ASKER} does not see its peers again within {SETTLE_SECONDS:.0f} s",
                fix=f"see {self.folder.root}/*/logs",
            ) from error

    async def _whole(self) -> None:
        for name in sorted(self._outdated):
            await signals.kill(self.daemons[name])
        self._outdated.clear()
        for name, daemon in self.daemons.items():
            if daemon.poll() is not None:
                self._restart(name)
        while True:
            if await live_peers(self.folder, ASKER) == len(self.teachers):
                return
            await asyncio.sleep(_POLL_SECONDS)

    def _later(self, seconds: float, befallen: _Befallen) -> None:
        async def end() -> None:
            await asyncio.sleep(seconds)
            await self._end(befallen)

        task = asyncio.create_task(end())
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def _end(self, befallen: _Befallen) -> None:
        if befallen in self._befallen:
            self._befallen.remove(befallen)
            await befallen.end()

    async def _befall(self, fault: Fault) -> End:
        if fault.kind in NETWORK:
            return self._on_the_way(fault)
        if fault.kind == "slow-loris":
            crowd = Dribble(self._ways[fault.node].address, int(fault.parameters["connections"]))
            crowd.start()
            return crowd.stop
        if fault.kind in LIES:
            return await self._lie(fault)
        return await self._at_the_process(fault)

    def _on_the_way(self, fault: Fault) -> End:
        """Nobody reaches the node; nor does the asker, who is the only one that asks, reach anybody."""
        names = list(self._ways) if fault.node == ASKER else [fault.node]
        ends = [impose(self._ways[name], fault.kind, fault.parameters) for name in names]

        async def end() -> None:
            for each in ends:
                each()

        return end

    async def _lie(self, fault: Fault) -> End:
        home = self.home(fault.node)
        await _told(home, Lie(fault.kind, int(fault.parameters.get("chunk", 0))))
        # Whom it caught lying, the asker leaves alone for a while, and that is not what comes next.
        self._outdated.add(ASKER)
        return lambda: _told(home, None)

    async def _at_the_process(self, fault: Fault) -> End:
        daemon, home = self.daemons[fault.node], self.home(fault.node)
        match fault.kind:
            case "kill":
                await signals.kill(daemon)

                async def restart() -> None:
                    self._restart(fault.node)

                return restart
            case "pause":
                return signals.pause(daemon)
            case "full-disk":
                return signals.fill_disk(daemon)
            case "expiring-certificate":
                return await signals.certify(self.folder, home, seconds=fault.parameters["seconds"])
            case _:
                return await self._skew(fault)

    async def _skew(self, fault: Fault) -> End:
        """Start the node anew with a clock that is wrong."""
        await signals.kill(self.daemons[fault.node])
        self._restart(fault.node, signals.wrong_clock(fault.parameters["seconds"]))

        async def end() -> None:
            await signals.kill(self.daemons[fault.node])
            self._restart(fault.node)

        return end

    def _restart(self, name: str, environ: dict[str, str] | None = None) -> None:
        if self.daemons[name].poll() is not None:
            self.daemons[name] = start_daemon(self.folder, name, program=PROGRAM, environ=environ)

    def _move(self, name: str, listen: str, *, announced: str) -> None:
        """Let a node listen behind its way, and announce the way."""
        home = self.home(name)
        config = load_config(home.config_file, {})
        node = config.node.model_copy(
            update={
                "listen": listen,
                "announce": (announced,),
                "worker_idle_seconds": _WORKER_IDLE_SECONDS,
            }
        )
        save_file(home.config_file, config_text(config.model_copy(update={"node": node})).encode())


async def _told(home: Home, lie: Lie | None) -> None:
    """Have a node lie, or not; one that is down or stopped is not told, and starts anew as an honest one."""
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(_TELL_SECONDS):
            await tell(home, lie)
