"""The daemon's side of its worker process: started on demand, stopped when idle, killed when deaf."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from qkt_p2p.errors import QktError, error_from_code
from qkt_p2p.limits import MAX_WORKER_FRAME_BYTES
from qkt_p2p.types import Progress

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from qkt_node.worker.operations import Operation

log = structlog.get_logger(__name__)

A = TypeVar("A")
R = TypeVar("R")

CANCEL_SECONDS = 1.0
"""A cancelled operation that has not ended by then costs the whole worker its life."""


@dataclass(slots=True)
class _Call:
    answer: asyncio.Future[Any]
    progress: Callable[[Progress], None] | None


@dataclass(slots=True)
class _Process:
    process: asyncio.subprocess.Process
    writer: asyncio.StreamWriter
    reading: asyncio.Task[None]


class Worker:
    """Runs operations in a child process; one process serves all calls until it is idle too long."""

    def __init__(self, home: Path, *, idle_seconds: float, threads: int) -> None:
        self._home = home
        self._idle_seconds = idle_seconds
        self._threads = threads
        self._child: _Process | None = None
        self._starting = asyncio.Lock()
        self._calls: dict[int, _Call] = {}
        self._numbers = itertools.count(1)
        self._idle: asyncio.TimerHandle | None = None

    @property
    def state(self) -> str:
        """Return "stopped", "idle" or "busy"."""
        if self._child is None:
            return "stopped"
        return "busy" if self._calls else "idle"

    async def call(
        self, operation: Operation[A, R], argument: A, progress: Callable[[Progress], None] | None = None
    ) -> R:
        """Run one operation and return its result; raises the QktError that it ended with.

        Cancelling the call cancels the operation in the worker.
        """
        child = await self._started()
        number = next(self._numbers)
        call = _Call(asyncio.get_running_loop().create_future(), progress)
        self._calls[number] = call
        try:
            content = operation.argument.dump_python(argument, mode="json")
            await _send(child, {"id": number, "operation": operation.name, "argument": content})
            return operation.result.validate_python(await asyncio.shield(call.answer), strict=False)
        except asyncio.CancelledError:
            await self._cancel(child, number, call)
            raise
        finally:
            del self._calls[number]
            self._rest()

    async def warm(self) -> None:
        """Start the process now, so that a call that is going to come finds it ready."""
        await self._started()
        self._rest()

    async def stop(self) -> None:
        """End the process; calls under way fail. Idempotent."""
        if self._idle is not None:
            self._idle.cancel()
        child, self._child = self._child, None
        if child is None:
            return
        child.writer.close()
        with suppress(ProcessLookupError):
            child.process.kill()
        await child.process.wait()
        await asyncio.gather(child.reading, return_exceptions=True)

    async def _started(self) -> _Process:
        if self._idle is not None:
            self._idle.cancel()
        async with self._starting:
            if self._child is None:
                self._child = await self._start()
            return self._child

    async def _start(self) -> _Process:
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "qkt_node.worker.process",
                str(self._home),
                str(theirs.fileno()),
                pass_fds=[theirs.fileno()],
                # Ctrl-C in a terminal is the daemon's to handle; it tells the worker.
                start_new_session=True,
                stdin=asyncio.subprocess.DEVNULL,
                env={**os.environ, "OMP_NUM_THREADS": str(self._threads)},
            )
        finally:
            theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours, limit=MAX_WORKER_FRAME_BYTES)
        log.info("worker_started", pid=process.pid)
        reading = asyncio.create_task(self._read(reader, process), name="worker reader")
        return _Process(process, writer, reading)

    async def _read(self, reader: asyncio.StreamReader, process: asyncio.subprocess.Process) -> None:
        """Hand every line to its call until the process ends; then fail what is left."""
        try:
            while line := await reader.readline():
                self._take(json.loads(line))
        except (ConnectionError, ValueError) as error:
            log.error("worker_stream_broken", error=str(error))
            with suppress(ProcessLookupError):
                process.kill()
        code = await process.wait()
        if self._child is not None and self._child.process is process:
            self._child = None
        log.info("worker_ended", pid=process.pid, exit_code=code)
        for call in self._calls.values():
            if not call.answer.done():
                call.answer.set_exception(
                    QktError(f"the learning worker died (exit {code})", fix="see the daemon's log, ask again")
                )

    def _take(self, frame: dict[str, Any]) -> None:
        call = self._calls.get(frame["id"])
        if call is None:
            return
        if "progress" in frame:
            if call.progress is not None:
                call.progress(Progress(**frame["progress"]))
        elif call.answer.done():
            return
        elif "error" in frame:
            error = frame["error"]
            call.answer.set_exception(error_from_code(error["code"], error["message"], error["fix"]))
        else:
            call.answer.set_result(frame["result"])

    async def _cancel(self, child: _Process, number: int, call: _Call) -> None:
        """Ask the worker to give an operation up; kill it where it does not listen in time."""
        if call.answer.done():
            return
        await _send(child, {"cancel": number})
        await asyncio.wait([call.answer], timeout=CANCEL_SECONDS)
        if not call.answer.done():
            log.warning("worker_killed", reason="it did not give up a cancelled operation")
            with suppress(ProcessLookupError):
                child.process.kill()
        elif not call.answer.cancelled():
            call.answer.exception()  # seen: it is the cancellation that was asked for

    def _rest(self) -> None:
        """Begin to count idle seconds when no call is left."""
        if self._calls or self._child is None:
            return
        loop = asyncio.get_running_loop()
        self._idle = loop.call_later(self._idle_seconds, self._retire)

    def _retire(self) -> None:
        """Let an idle process end by closing its input; a new one starts with the next call."""
        if self._calls or self._child is None:
            return
        log.info("worker_idle", seconds=self._idle_seconds)
        child, self._child = self._child, None
        child.writer.close()


async def _send(child: _Process, frame: dict[str, Any]) -> None:
    with suppress(ConnectionError):  # the reader sees the end of the process and fails the call
        child.writer.write(json.dumps(frame).encode() + b"\n")
        await child.writer.drain()
