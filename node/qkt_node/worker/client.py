"""The daemon's side of its worker: a process that starts on demand and ends when it is idle."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog
from pydantic import ValidationError

from qkt_node.worker.child import Child
from qkt_p2p.errors import QktError, WorkerDiedError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from qkt_node.home import Home
    from qkt_node.settings import NodeConfig
    from qkt_node.worker.operations import Operation
    from qkt_p2p.seams import ReportProgress

log = structlog.get_logger(__name__)

A = TypeVar("A")
R = TypeVar("R")

_PROGRAM: Final = (sys.executable, "-m", "qkt_node.worker.process")


class Worker:
    """Runs operations in a child process; one process serves all calls until it is idle too long.

    `program` is called with the home and a socket's number as arguments.
    """

    def __init__(self, home: Home, config: NodeConfig, *, program: Sequence[str] = _PROGRAM) -> None:
        self._home = home
        self._config = config
        self._program = program
        self._child: Child | None = None
        self._starting = asyncio.Lock()
        self._ending: set[asyncio.Task[None]] = set()
        self._idle: asyncio.TimerHandle | None = None

    @property
    def state(self) -> str:
        """What the process does now: "stopped", "idle" or "busy"."""
        if self._child is None or not self._child.usable:
            return "stopped"
        return "busy" if self._child.busy else "idle"

    async def call(
        self, operation: Operation[A, R], argument: A, progress: ReportProgress | None = None
    ) -> R:
        """Run one operation and return its result; raises the QktError that it ended with.

        Cancelling the call cancels the operation. When this returns nothing of it runs any more, but where
        it does not listen and other work would be lost with the process: then what it makes is dropped.
        """
        content = operation.argument.dump_python(argument, mode="json")
        result = await self._answer(operation, content, progress)
        try:
            return operation.result.validate_python(result, strict=False)
        except ValidationError as error:
            at = ".".join(map(str, error.errors()[0]["loc"])) or "all of it"
            raise QktError(
                f"the learning worker's answer to {operation.name} is not as expected: {at}",
                fix="start the node again: daemon and worker must be of one version",
            ) from error

    async def _answer(self, operation: Operation[A, R], content: Any, progress: ReportProgress | None) -> Any:
        """Return what a process answers; one that was killed for another's cancellation does not count."""
        while True:
            child = await self._started()
            try:
                return await child.call(operation, content, progress)
            except WorkerDiedError:
                if not child.sacrificed:
                    raise
                log.info("operation_repeated", operation=operation.name)
            finally:
                self._rest()

    async def warm(self) -> None:
        """Start the process now, so that a call that is going to come finds it ready."""
        await self._started()
        self._rest()

    async def stop(self) -> None:
        """End the process; calls under way fail. Idempotent."""
        self._stop_counting()
        if self._child is not None:
            self._child.stop()
            self._child = None
        await asyncio.gather(*self._ending)

    async def _started(self) -> Child:
        self._stop_counting()
        async with self._starting:
            if self._child is None or not self._child.usable:
                self._child = await self._start()
            return self._child

    async def _start(self) -> Child:
        environ = _environment(self._home.scratch, self._config.node.threads)
        child = await Child.start((*self._program, str(self._home.root)), environ=environ)
        self._ending.add(child.ended)
        child.ended.add_done_callback(self._ending.discard)
        # The settings that the daemon started with hold, whatever node.toml says by now.
        await child.send({"config": self._config.model_dump_json()})
        return child

    def _rest(self) -> None:
        """Begin to count idle seconds when no call is left."""
        self._stop_counting()
        if self.state == "idle":
            seconds = self._config.node.worker_idle_seconds
            self._idle = asyncio.get_running_loop().call_later(seconds, self._retire)

    def _stop_counting(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _retire(self) -> None:
        """Let an idle process end; a new one starts with the next call."""
        if self._child is not None and not self._child.busy:
            log.info("worker_idle", seconds=self._config.node.worker_idle_seconds)
            self._child.close()
            self._child = None


def _environment(scratch: Path, threads: int) -> dict[str, str]:
    """Return what the process's libraries are told; `threads` 0 leaves them one for each core."""
    told = {
        # Libraries cache things among the temporary files; nothing outside the home is written.
        "TMPDIR": str(scratch),
        # Threads that spin while they wait slow a training tenfold where other processes want the cores, too.
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
    }
    return {**told, "OMP_NUM_THREADS": str(threads)} if threads else told
