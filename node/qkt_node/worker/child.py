"""One worker process as the daemon sees it: calls in flight, cancellation, and how it ended."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from qkt_p2p.errors import QktError, WorkerDiedError, error_from_code
from qkt_p2p.limits import MAX_WORKER_FRAME_BYTES
from qkt_p2p.types import Progress

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qkt_node.worker.operations import Lane, Operation
    from qkt_p2p.seams import ReportProgress

log = structlog.get_logger(__name__)

CANCEL_SECONDS = 0.5
"""A cancelled operation that has not ended by then may cost the whole process its life: `queries cancel` ends
all work within a second."""

_STDERR = 2


@dataclass(slots=True)
class _Call:
    lane: Lane
    answer: asyncio.Future[Any]
    progress: ReportProgress | None
    cancelled: bool = False


class Child:
    """A running worker process.

    Calls that it has not answered when it ends fail: with a QktError where it was stopped, with a
    WorkerDiedError otherwise. `sacrificed` tells that it was killed for the sake of a cancellation.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        *,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._process = process
        self._writer = writer
        self._calls: dict[int, _Call] = {}
        self._numbers = itertools.count(1)
        self._closing = False
        self._stopped = False
        self.sacrificed = False
        self.ended = asyncio.create_task(self._read(reader), name=f"worker {process.pid}")

    @classmethod
    async def start(cls, command: Sequence[str], *, environ: Mapping[str, str]) -> Child:
        """Start `command` with the number of its end of a socket as last argument; raises QktError."""
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                str(theirs.fileno()),
                pass_fds=[theirs.fileno()],
                # Ctrl-C in a terminal is the daemon's to handle; it tells the worker.
                start_new_session=True,
                stdin=asyncio.subprocess.DEVNULL,
                # What a library prints must not mix with the daemon's own answer on stdout.
                stdout=_STDERR,
                env={**os.environ, **environ},
            )
        except OSError as error:
            ours.close()
            raise QktError(f"cannot start the learning worker: {error.strerror}") from error
        finally:
            theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours, limit=MAX_WORKER_FRAME_BYTES)
        log.info("worker_started", pid=process.pid)
        return cls(process, reader, writer=writer)

    @property
    def usable(self) -> bool:
        """Whether the process can take calls."""
        return not self._closing and not self.ended.done()

    @property
    def busy(self) -> bool:
        """Whether calls are in flight."""
        return bool(self._calls)

    async def send(self, frame: Mapping[str, Any]) -> None:
        """Send one JSON line; where the process is gone, the end of `ended` tells."""
        with suppress(ConnectionError):
            self._writer.write(json.dumps(frame).encode() + b"\n")
            await self._writer.drain()

    async def call(
        self, operation: Operation[Any, Any], argument: Any, progress: ReportProgress | None
    ) -> Any:
        """Run one operation and return its result; cancelling this cancels the operation."""
        number = next(self._numbers)
        call = _Call(operation.lane, asyncio.get_running_loop().create_future(), progress)
        self._calls[number] = call
        try:
            await self.send({"id": number, "operation": operation.name, "argument": argument})
            return await asyncio.shield(call.answer)
        except asyncio.CancelledError:
            await self._cancel(number, call)
            raise
        finally:
            del self._calls[number]

    def close(self) -> None:
        """Let the process end by itself: its input is at its end."""
        self._closing = True
        self._writer.close()

    def stop(self) -> None:
        """End the process for good: what it has in hand is not to be tried again."""
        self._stopped = True
        self.kill()

    def kill(self) -> None:
        """End the process now."""
        self.close()
        with suppress(ProcessLookupError):
            self._process.kill()

    async def _cancel(self, number: int, call: _Call) -> None:
        """Ask the process to give an operation up; kill it where it does not listen in time.

        Where others need it more, it lives: the operation runs on until it listens, and nobody hears of it.
        """
        call.cancelled = True
        try:
            if not call.answer.done():
                await self.send({"cancel": number})
                await asyncio.wait([call.answer], timeout=CANCEL_SECONDS)
        finally:
            if not call.answer.done() and not self._outweighs(call):
                log.warning("worker_killed", reason="it did not give up a cancelled operation")
                self.sacrificed = True
                self.kill()
                # Once it has ended, nothing more appears on disk.
                await asyncio.wait([self.ended])
            if call.answer.done():
                call.answer.exception()  # seen: it is the cancellation that was asked for

    def _outweighs(self, cancelled: _Call) -> bool:
        """Tell whether work is in flight that must not be lost over a cancelled operation.

        What a peer gave up costs nobody else anything. What this node's owner gave up costs peers' work the
        time to begin anew, but not another step of the owner's.
        """
        return any(
            not call.cancelled and (call.lane == "learn" or cancelled.lane != "learn")
            for call in self._calls.values()
        )

    async def _read(self, reader: asyncio.StreamReader) -> None:
        """Hand every line to its call until the process ends; then fail what is left."""
        try:
            while line := await reader.readline():
                self._take(json.loads(line))
        except Exception:
            # Whatever broke, no call may wait for ever.
            log.exception("worker_stream_broken")
            self.kill()
        self._closing = True
        code = await self._process.wait()
        self._writer.close()
        log.info("worker_ended", pid=self._process.pid, exit_code=code)
        for call in self._calls.values():
            if not call.answer.done():
                call.answer.set_exception(self._death(code))

    def _death(self, code: int) -> QktError:
        if self._stopped:
            return QktError("the learning worker was stopped", fix="start the node again")
        how = f"exit code {code}" if code >= 0 else f"signal {-code}"
        return WorkerDiedError(
            f"the learning worker died ({how})", fix="ask again; the daemon's log tells more"
        )

    def _take(self, frame: dict[str, Any]) -> None:
        call = self._calls.get(frame["id"])
        if call is None or call.answer.done():
            return
        if "progress" in frame:
            if call.progress is not None:
                call.progress(Progress(**frame["progress"]))
        elif "error" in frame:
            call.answer.set_exception(error_from_code(**frame["error"]))
        else:
            call.answer.set_result(frame["result"])
