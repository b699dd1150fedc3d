"""The worker's own side of the line: lanes, cancellation, and what happens to errors."""

from __future__ import annotations

import json
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from qkt_node.worker import process
from qkt_node.worker.operations import SYNTHESIZE, TeachOrder
from qkt_node.worker.process import WorkerProcess
from qkt_p2p.errors import ConfigError
from qkt_p2p.types import ProbeReport, Progress, QueryId, StudentModel, TeachRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Report = Callable[[Progress], None]

PROBE = {"query_id": "0" * 16, "seed": 1, "probes": 1, "classes": []}
ORDER = SYNTHESIZE.argument.dump_python(
    TeachOrder.of(TeachRequest(QueryId("0" * 16), "inversion", 1, 10, (), (1, 8, 8))), mode="json"
)


class Bench:
    """Stands in for the workbench: `probe` answers at once, all else works until `free` is set."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.error: BaseException | None = None

    def prepare(self, argument: None, report: Report) -> StudentModel:
        """Report again and again until it is cancelled or freed."""
        if self.error is not None:
            raise self.error
        while not self.free.wait(0.001):
            report(Progress("train", 1, 2, "at it"))
        return StudentModel(1, (1, 8, 8), (), ())

    def synthesize(self, order: object, report: Report) -> str:
        """Do the same for a peer."""
        self.prepare(None, report)
        return "a bank"

    def probe(self, request: object, report: Report) -> ProbeReport:
        """Answer at once."""
        return ProbeReport(1, (1, 8, 8), ())


class Line:
    """The daemon's end of the line."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._lines = connection.makefile("rb")

    def send(self, **frame: Any) -> None:
        """Send one frame."""
        self.connection.sendall(json.dumps(frame).encode() + b"\n")

    def answer(self, number: int, *, progress: bool = False) -> dict[str, Any]:
        """Return the next frame of a request that is a progress report, or that is none."""
        for line in self._lines:
            frame: dict[str, Any] = json.loads(line)
            if frame["id"] == number and ("progress" in frame) is progress:
                return frame
        raise AssertionError("the worker closed the line")

    def close(self) -> None:
        """Close it, as a daemon does that ends."""
        self._lines.close()
        self.connection.close()


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def line(bench: Bench) -> Iterator[Line]:
    """The line to a worker that serves in a thread of this process."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        serving = threading.Thread(target=WorkerProcess(theirs, lambda: bench).run)  # type: ignore[arg-type, return-value]
        serving.start()
        line = Line(ours)
        yield line
        bench.free.set()
        ours.shutdown(socket.SHUT_WR)
        serving.join()
        line.close()


def test_peers_are_answered_while_the_node_learns(line: Line, bench: Bench) -> None:
    """A probe does not wait for a training that is under way."""
    line.send(id=1, operation="prepare", argument=None)
    assert line.answer(1, progress=True)["progress"]["message"] == "started"
    line.send(id=2, operation="probe", argument=PROBE)
    assert line.answer(2)["result"]["model_version"] == 1
    bench.free.set()
    assert line.answer(1)["result"]["version"] == 1


def test_probes_do_not_wait_for_banks(line: Line, bench: Bench) -> None:
    """A bank may take minutes, and whoever does not answer a probe is not asked at all."""
    line.send(id=1, operation="synthesize", argument=ORDER)
    line.answer(1, progress=True)
    line.send(id=2, operation="probe", argument=PROBE)
    assert line.answer(2)["result"]["model_version"] == 1
    bench.free.set()
    assert line.answer(1)["result"] == "a bank"


def test_what_runs_is_given_up_at_its_next_report(line: Line) -> None:
    """A cancelled operation ends as cancelled."""
    line.send(id=1, operation="prepare", argument=None)
    line.answer(1, progress=True)
    line.send(cancel=1)
    assert line.answer(1)["error"]["code"] == "cancelled"


def test_what_waits_is_given_up_at_once(line: Line, bench: Bench) -> None:
    """A cancelled operation in a busy lane is answered before its turn, and never runs."""
    line.send(id=1, operation="prepare", argument=None)
    line.answer(1, progress=True)
    line.send(id=2, operation="prepare", argument=None)
    line.send(cancel=2)
    assert line.answer(2)["error"]["code"] == "cancelled"
    bench.free.set()
    assert line.answer(1)["result"]["version"] == 1
    line.send(id=3, operation="probe", argument=PROBE)
    assert line.answer(3)["result"]["model_version"] == 1


def test_a_late_cancellation_is_ignored(line: Line) -> None:
    """Cancelling what has ended, or never was, does nothing."""
    line.send(cancel=99)
    line.send(id=1, operation="probe", argument=PROBE)
    assert line.answer(1)["result"]["model_version"] == 1
    line.send(cancel=1)
    line.send(id=2, operation="probe", argument=PROBE)
    assert line.answer(2)["result"]["model_version"] == 1


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ConfigError("no data", fix="get some"), "config", "no data"),
        (ZeroDivisionError("by zero"), "failed", "prepare failed: ZeroDivisionError: by zero"),
    ],
)
def test_errors_are_told_and_nothing_ends(
    line: Line, bench: Bench, error: Exception, code: str, message: str
) -> None:
    """An error of the tree keeps its code; any other one is named; the worker goes on."""
    bench.error = error
    line.send(id=1, operation="prepare", argument=None)
    told = line.answer(1)["error"]
    assert (told["code"], told["message"]) == (code, message)
    line.send(id=2, operation="probe", argument=PROBE)
    assert line.answer(2)["result"]["model_version"] == 1


def test_a_workbench_that_cannot_be_opened_is_tried_again() -> None:
    """Each operation tells why, until it can be opened."""
    opened: Iterator[ConfigError | Bench] = iter(
        [ConfigError("unreadable"), ConfigError("unreadable"), Bench()]
    )

    def open_bench() -> Bench:
        found = next(opened)
        if isinstance(found, Bench):
            return found
        raise found

    ours, theirs = socket.socketpair()
    with ours, theirs:
        serving = threading.Thread(target=WorkerProcess(theirs, open_bench).run)  # type: ignore[arg-type]
        serving.start()
        line = Line(ours)
        line.send(id=1, operation="probe", argument=PROBE)
        assert line.answer(1)["error"]["message"] == "unreadable"
        line.send(id=2, operation="probe", argument=PROBE)
        assert line.answer(2)["result"]["model_version"] == 1
        ours.shutdown(socket.SHUT_WR)
        serving.join()
        line.close()


def test_a_worker_that_breaks_while_it_opens_hears_no_more() -> None:
    """What asks is told why, and the process ends, for half-loaded libraries stay half-loaded."""
    asked = threading.Event()

    def open_bench() -> Bench:
        asked.wait()
        raise OSError(28, "No space left on device")

    ours, theirs = socket.socketpair()
    with ours, theirs:
        serving = threading.Thread(target=WorkerProcess(theirs, open_bench).run)  # type: ignore[arg-type]
        serving.start()
        line = Line(ours)
        line.send(id=1, operation="probe", argument=PROBE)
        asked.set()
        assert "No space left on device" in line.answer(1)["error"]["message"]
        serving.join()
        line.close()


def test_the_first_line_is_read_and_no_byte_more() -> None:
    """The settings come first; what follows them is left for whoever reads the requests."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b'{"config": "{}"}\nrest')
        assert process._first_line(theirs) == b'{"config": "{}"}\n'
        assert theirs.recv(10) == b"rest"
        ours.shutdown(socket.SHUT_WR)
        assert process._first_line(theirs) == b""
