"""All ways in turn, again and again, each transfer between two new processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from qkt_bench.transport.load import ASKER, TEACHER, Load
from qkt_bench.transport.summary import summarized
from qkt_bench.transport.ways import BARE, FILES, WAYS
from qkt_node.versions import versions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Say = Callable[[int, int, str], None]

END_SECONDS: Final = 60.0
"""Longest wait for a process to end."""


@dataclass(frozen=True, slots=True)
class TransportPlan:
    """`repeats` transfers of `megabytes` by each way, then one of `large_megabytes` by each with journals
    and by grpc.aio.

    The last of those is to an asker whose journal takes `slow_seconds` for each chunk.
    """

    megabytes: int
    repeats: int
    chunk_kib: int
    large_megabytes: int
    slow_seconds: float = 0.005


def run_transport(plan: TransportPlan, say: Say) -> dict[str, Any]:
    """Return all measurements and their summary."""
    load_before = os.getloadavg()
    with TemporaryDirectory(prefix="qkt-bench-") as folder:
        usual = prepared(Path(folder) / "usual", plan.megabytes, plan.chunk_kib)
        large = prepared(Path(folder) / "large", plan.large_megabytes, plan.chunk_kib)
        jobs = [(way, usual) for _ in range(plan.repeats) for way in WAYS]
        jobs += [(way, large) for way in ("qkt", "qkt, attached", BARE, FILES)]
        jobs.append(("qkt", replace(large, pause=plan.slow_seconds)))
        taken = list(_each(jobs, say))
    return {
        "plan": asdict(plan),
        "machine": {
            "cores": os.cpu_count(),
            "load_average_before": load_before,
            "load_average_after": os.getloadavg(),
        },
        "versions": versions(),
        **summarized(taken),
        "transfers": taken,
    }


def prepared(folder: Path, megabytes: int, chunk_kib: int) -> Load:
    """Return a load with a folder of its own, its members and the teacher's bank."""
    folder.mkdir()
    load = Load(folder, megabytes, chunk_kib)
    load.prepare()
    return load


def _each(jobs: Sequence[tuple[str, Load]], say: Say) -> Iterator[dict[str, Any]]:
    for done, (way, load) in enumerate(jobs):
        say(done, len(jobs), f"{load.megabytes} MiB by {way}")
        yield {"way": way, "megabytes": load.megabytes, "pause": load.pause, **transfer(way, load)}


def transfer(way: str, load: Load) -> dict[str, Any]:
    """Return what one transfer took at both ends, and a unary round trip before it."""
    first, second = (ASKER, TEACHER) if WAYS[way].asker_listens else (TEACHER, ASKER)
    with (
        _spare_file(load) as spare,
        _end(way, first, 0, load) as listening,
        _end(way, second, listening.port, load) as dialing,
    ):
        asker, teacher = (listening, dialing) if first == ASKER else (dialing, listening)
        trips = asker.does("trips")
        teacher.does("begin")
        spare.unlink()
        fetched = asker.does("fetch")
        return {
            "round_trip_seconds": median(trips["seconds"]),
            "seconds": fetched.pop("seconds"),
            "first_chunk_seconds": fetched.pop("first_chunk_seconds"),
            ASKER: fetched,
            TEACHER: teacher.does("report"),
        }


@contextmanager
def _spare_file(load: Load) -> Iterator[Path]:
    """Keep a file as large as what travels, for its pages of the file cache.

    A virtual machine's host takes back what is free for seconds, and must find it anew for whoever writes
    next. Who removes the file has what a machine with memory of its own always has.
    """
    spare = load.folder / "spare"
    load.write(spare)
    try:
        yield spare
    finally:
        spare.unlink(missing_ok=True)


class _Process:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.port = int(self._answer()["port"])

    def does(self, word: str) -> dict[str, Any]:
        """Have the end do something and return what it says."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"an end of the bench failed: {self._process.args!r}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def _end(way: str, side: str, port: int, load: Load) -> Iterator[_Process]:
    command = [sys.executable, "-m", "qkt_bench.transport.end", way, side, str(port), load.as_text()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield _Process(process)
            assert process.stdin is not None
            process.stdin.close()
            process.wait(END_SECONDS)
        finally:
            process.kill()
