"""Daemons on the hosts of a network, as their owners start, watch and kill them."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from qkt_node.control.client import ControlClient, connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from qkt_node.home import Home
    from qkt_p2p.pb import control_pb2 as pb
    from tests.netns.homes import Homes
    from tests.netns.lan import Lan

STOP_SECONDS: Final = 10.0
MEET_SECONDS: Final = 10.0
TICK_SECONDS: Final = 0.025
"""How often an owner looks again; the precision of what is measured."""

_QKT_NODE: Final = (sys.executable, "-m", "qkt_node")


class NodeError(RuntimeError):
    """A daemon ended that no test had told to, or a command failed."""


@dataclass(slots=True)
class Node:
    """A running daemon and its owner's line to it."""

    name: str
    peer: str
    home: Home
    _process: asyncio.subprocess.Process
    _owner: ControlClient
    _network: Network

    async def peers(self) -> dict[str, pb.PeerStatus]:
        """Return what the daemon tells of its peers, by id."""
        return {peer.peer_id: peer for peer in (await self._owner.peers()).peers}

    async def until(self, condition: Callable[[dict[str, pb.PeerStatus]], bool]) -> None:
        """Return when the peers are as `condition` says; the caller sets the time limit."""
        while not condition(await self.peers()):
            await self._tick()

    async def until_state(self, other: Node, *states: str) -> None:
        """Return when the peer is shown in one of `states`."""
        await self.until(lambda peers: other.peer in peers and peers[other.peer].state in states)

    async def until_logged(self, event: str, **fields: object) -> dict[str, Any]:
        """Return the first entry of the daemon's log of that event and those fields."""
        while not (found := self.logged(event, **fields)):
            await self._tick()
        return found[0]

    def logged(self, event: str, **fields: object) -> list[dict[str, Any]]:
        """Return the entries of the daemon's log so far of that event and those fields."""
        wanted = {"event": event, **fields}
        return [entry for entry in _entries(log_file(self.home)) if wanted.items() <= entry.items()]

    async def query(self, *classes: str) -> AsyncIterator[dict[str, Any]]:
        """Yield what the command `query` prints: events of its progress, then its answer."""
        words = (*_QKT_NODE, "query", "--home", str(self.home.root), "--format", "jsonl")
        command = self._network.lan.command(self.name, *words, "--classes", ",".join(classes))
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env=_env({}))
        assert process.stdout is not None
        try:
            async for line in process.stdout:
                yield json.loads(line)
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def terminate(self) -> None:
        """Tell the daemon to drain and end, without waiting for it."""
        self._process.terminate()

    async def ended(self) -> int:
        """Return the daemon's exit code once it has ended."""
        async with asyncio.timeout(STOP_SECONDS):
            return await self._process.wait()

    async def kill(self) -> None:
        """End the daemon as a power cut would."""
        self._process.kill()
        await self._process.wait()

    async def _tick(self) -> None:
        with suppress(TimeoutError):
            code = await asyncio.wait_for(self._process.wait(), TICK_SECONDS)
            raise NodeError(f"{self.name} ended with exit code {code}")


class Network:
    """Starts nodes on a network, each in a copy of its home; `close` ends them."""

    def __init__(self, lan: Lan, homes: Homes, folder: Path) -> None:
        self.lan = lan
        self._homes = homes
        self._folder = folder
        self._opened: dict[str, Home] = {}
        self._closing = AsyncExitStack()

    async def start(self, *names: str, **settings: str) -> list[Node]:
        """Start daemons, return when all are ready; `settings` are twins of options in the environment."""
        return await asyncio.gather(*(self._start(name, settings) for name in names))

    async def meet(self, *names: str) -> list[Node]:
        """Start daemons, return when each sees all others live."""
        nodes = await self.start(*names)
        async with asyncio.timeout(MEET_SECONDS):
            for node in nodes:
                for other in nodes:
                    if other is not node:
                        await node.until_state(other, "live")
        return nodes

    def plug_in(self, name: str, address: str = "") -> None:
        """Add a host of that name, at 10.0.0.1 and on unless an address is given."""
        self.set_up(name)
        self.lan.connect(name, address or f"10.0.0.{len(self._opened)}/24")

    def set_up(self, name: str) -> None:
        """Add a host of that name, without any network yet."""
        self.lan.add_host(name)
        self._opened[name] = self._homes.copy(name, self._folder)

    async def close(self) -> str:
        """Kill the daemons and return the ends of their logs."""
        await self._closing.aclose()
        return "\n".join(_log_text(name, home) for name, home in self._opened.items())

    async def _start(self, name: str, settings: dict[str, str]) -> Node:
        if name not in self._opened:
            self.plug_in(name)
        home = self._opened[name]
        command = self.lan.command(name, *_QKT_NODE, "start", "--home", str(home.root), "--format", "jsonl")
        with log_file(home).open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *command, cwd=home.root, stdout=asyncio.subprocess.PIPE, stderr=log, env=_env(settings)
            )
        self._closing.push_async_callback(_end, process)
        ready = await _ready(process)
        owner = await self._closing.enter_async_context(connect(home))
        return Node(name, ready["peer"], home, process, owner, self)


def log_file(home: Home) -> Path:
    """Return the file with the daemon's log, beside its home."""
    return home.root.with_suffix(".log")


async def _ready(process: asyncio.subprocess.Process) -> dict[str, Any]:
    """Return what the daemon tells of itself once it is ready."""
    assert process.stdout is not None
    event: dict[str, Any] = {}
    async for line in process.stdout:
        event = json.loads(line)
        if event.get("event") == "ready":
            return event
    code = await process.wait()
    raise NodeError(f"the daemon ended with exit code {code} before it was ready: {event.get('error')}")


async def _end(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()


def _env(settings: dict[str, str]) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("QKT_")}
    # Half a dozen daemons share this machine's cores.
    return {**inherited, "QKT_NODE_THREADS": "1", "QKT_NODE_LOG_LEVEL": "debug", **settings}


def _entries(path: Path) -> list[dict[str, Any]]:
    # The last line may still be on its way.
    lines = path.read_text(errors="replace").split("\n")[:-1]
    return [json.loads(line) for line in lines if line.startswith("{")]


def _log_text(name: str, home: Home) -> str:
    """Return the last lines of a daemon's log, without the questions of the tests themselves."""
    lines = log_file(home).read_text(errors="replace").splitlines() if log_file(home).exists() else []
    return "\n".join([f"--- {name}", *[line for line in lines if '"peer": "owner"' not in line][-40:]])
