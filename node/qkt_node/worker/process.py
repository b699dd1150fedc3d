"""The worker process: reads requests from a socket, runs each in its lane, reports progress.

Started by the daemon as `python -m qkt_node.worker.process HOME FD`; ends when the daemon does.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from qkt_node.log import configure_logging
from qkt_node.worker.operations import OPERATIONS
from qkt_p2p.errors import CancelledError, QktError
from qkt_p2p.types import Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from qkt_node.worker.workbench import Workbench

log = structlog.get_logger(__name__)


class WorkerProcess:
    """Requests in, progress and results out, until the daemon closes its end."""

    def __init__(self, home: Path, connection: socket.socket) -> None:
        self._home = home
        self._connection = connection
        self._writing = threading.Lock()
        self._cancelled: dict[int, threading.Event] = {}
        self._lanes = {
            lane: ThreadPoolExecutor(max_workers=1, thread_name_prefix=lane) for lane in ("serve", "learn")
        }
        self._workbench: Workbench | None = None
        self._opening = threading.Lock()

    def run(self) -> None:
        """Serve until the daemon closes the connection; work under way is given up then."""
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
        event = self._cancelled.get(number)
        if event is not None:
            event.set()

    def _accept(self, frame: dict[str, Any]) -> None:
        self._cancelled[frame["id"]] = threading.Event()
        lane = OPERATIONS[frame["operation"]].lane
        self._lanes[lane].submit(self._answer, frame)

    def _answer(self, frame: dict[str, Any]) -> None:
        """Run one request and send how it ended; nothing else may end it."""
        number = frame["id"]
        try:
            result = self._run(frame)
        except QktError as error:
            details = {"code": error.code, "message": error.message, "fix": error.fix}
            self._send({"id": number, "error": details})
        except BaseException as error:
            log.exception("operation_failed", operation=frame["operation"])
            message = f"{frame['operation']} failed: {type(error).__name__}: {error}"
            self._send({"id": number, "error": {"code": QktError.code, "message": message, "fix": ""}})
            if not isinstance(error, Exception):
                raise
        else:
            self._send({"id": number, "result": result})
        finally:
            del self._cancelled[number]

    def _run(self, frame: dict[str, Any]) -> Any:
        operation = OPERATIONS[frame["operation"]]
        argument = operation.argument.validate_python(frame["argument"], strict=False)
        report = self._reporter(frame["id"])
        report(Progress(operation.name, 0, 0, "started"))
        result = getattr(self._opened(), operation.name)(argument, report)
        return operation.result.dump_python(result, mode="json")

    def _opened(self) -> Workbench:
        with self._opening:
            if self._workbench is None:
                from qkt_node.worker.workbench import Workbench  # noqa: PLC0415 - torch, off the reading thread

                self._workbench = Workbench.open(self._home)
            return self._workbench

    def _reporter(self, number: int) -> Callable[[Progress], None]:
        """Return a progress callback that also is the point where an operation can be cancelled."""
        cancelled = self._cancelled[number]

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
    home, descriptor = Path(sys.argv[1]), int(sys.argv[2])
    configure_logging(
        os.environ.get("QKT_WORKER_LOG_FORMAT", "auto"), os.environ.get("QKT_WORKER_LOG_LEVEL", "info")
    )
    WorkerProcess(home, socket.socket(fileno=descriptor)).run()
    # Lanes may still compute for a daemon that no longer listens; nothing they write is half done.
    os._exit(0)


if __name__ == "__main__":
    main()
