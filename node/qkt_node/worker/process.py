"""The worker process: reads requests from a socket, runs each in its lane, reports progress.

Started by the daemon as `python -m qkt_node.worker.process HOME FD`; ends when the daemon does. The first
line holds the daemon's settings, every other one a request or the cancellation of one.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import structlog

from qkt_node.log import configure_logging
from qkt_node.settings import NodeConfig
from qkt_node.worker.operations import OPERATIONS, Lane
from qkt_p2p.errors import CancelledError, QktError
from qkt_p2p.types import Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from qkt_node.worker.workbench import Workbench
    from qkt_p2p.seams import ReportProgress

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Request:
    cancelled: threading.Event = field(default_factory=threading.Event)
    begun: bool = False


class WorkerProcess:
    """Requests in, progress and results out, until the daemon closes its end.

    `open_workbench` is called once, off the thread that reads; it may take seconds.
    """

    def __init__(self, connection: socket.socket, open_workbench: Callable[[], Workbench]) -> None:
        self._connection = connection
        self._open_workbench = open_workbench
        self._writing = threading.Lock()
        self._beginning = threading.Lock()
        self._requests: dict[int, _Request] = {}
        self._lanes = {
            lane: ThreadPoolExecutor(max_workers=1, thread_name_prefix=lane) for lane in get_args(Lane)
        }
        self._workbench: Workbench | None = None
        self._opening = threading.Lock()

    def run(self) -> None:
        """Serve until the daemon closes the connection or nothing can be served; running work is given up."""
        # Opening takes seconds; whoever started this process is going to need it.
        self._lanes["learn"].submit(self._opened)
        with self._connection.makefile("rb") as lines:
            for line in lines:
                frame = json.loads(line)
                if "cancel" in frame:
                    self._cancel(frame["cancel"])
                else:
                    self._accept(frame)

    def _cancel(self, number: int) -> None:
        """Give a request up: at once where it still waits, at its next report where it runs."""
        with self._beginning:
            request = self._requests.get(number)
            if request is None:
                return
            request.cancelled.set()
        if not request.begun:
            self._fail(number, CancelledError("the operation was cancelled"))

    def _accept(self, frame: dict[str, Any]) -> None:
        self._requests[frame["id"]] = _Request()
        lane = OPERATIONS[frame["operation"]].lane
        self._lanes[lane].submit(self._answer, frame)

    def _answer(self, frame: dict[str, Any]) -> None:
        """Run one request and send how it ended; nothing else may end it."""
        number = frame["id"]
        try:
            workbench = self._opened()
            if not self._begin(number):
                return
            result = self._run(frame, workbench)
        except QktError as error:
            self._fail(number, error)
        except BaseException as error:
            log.exception("operation_failed", operation=frame["operation"])
            self._fail(number, QktError(f"{frame['operation']} failed: {type(error).__name__}: {error}"))
            if not isinstance(error, Exception):
                raise
        else:
            self._send({"id": number, "result": result})
        finally:
            del self._requests[number]

    def _begin(self, number: int) -> bool:
        """Mark a request as running; returns False where it was given up while it waited."""
        with self._beginning:
            request = self._requests[number]
            request.begun = not request.cancelled.is_set()
            return request.begun

    def _fail(self, number: int, error: QktError) -> None:
        self._send({"id": number, "error": error.as_data()})

    def _run(self, frame: dict[str, Any], workbench: Workbench) -> Any:
        operation = OPERATIONS[frame["operation"]]
        argument = operation.argument.validate_python(frame["argument"], strict=False)
        report = self._reporter(frame["id"])
        report(Progress(operation.name, 0, 0, "started"))
        result = getattr(workbench, operation.name)(argument, report)
        return operation.result.dump_python(result, mode="json")

    def _opened(self) -> Workbench:
        with self._opening:
            if self._workbench is None:
                try:
                    self._workbench = self._open_workbench()
                except QktError:
                    raise
                except Exception:
                    # Libraries that were loaded in part, as on a full disk, stay so: this process hears no
                    # more, and the daemon starts another one.
                    log.exception("workbench_not_opened")
                    self._connection.shutdown(socket.SHUT_RD)
                    raise
            return self._workbench

    def _reporter(self, number: int) -> ReportProgress:
        """Return a progress callback that also is the point where an operation can be cancelled."""
        cancelled = self._requests[number].cancelled

        def report(progress: Progress) -> None:
            if cancelled.is_set():
                raise CancelledError("the operation was cancelled")
            fields = {field: getattr(progress, field) for field in ("step", "done", "total", "message")}
            self._send({"id": number, "progress": fields})

        return report

    def _send(self, frame: dict[str, Any]) -> None:
        data = json.dumps(frame).encode() + b"\n"
        with self._writing:
            try:
                self._connection.sendall(data)
            except OSError:
                os._exit(0)  # the daemon is gone: nobody is left to work for


def main() -> None:
    """Serve the daemon that started this process."""
    home, connection = Path(sys.argv[1]), socket.socket(fileno=int(sys.argv[2]))
    first = _first_line(connection)
    if not first:
        return
    config = NodeConfig.model_validate_json(json.loads(first)["config"])
    configure_logging(config.node.log_format, config.node.log_level)

    def open_workbench() -> Workbench:
        from qkt_node.worker.workbench import Workbench  # noqa: PLC0415 - torch, off the reading thread

        return Workbench.open(home, config)

    WorkerProcess(connection, open_workbench).run()
    # Lanes may still compute for a daemon that no longer listens; nothing they write is half done.
    os._exit(0)


def _first_line(connection: socket.socket) -> bytes:
    """Read up to the end of one line and not a byte further, for what follows is read elsewhere."""
    line = bytearray()
    while not line.endswith(b"\n") and (byte := connection.recv(1)):
        line += byte
    return bytes(line)


if __name__ == "__main__":
    main()
