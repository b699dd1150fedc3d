r"""One response over slow links, by this transport, by a bare stream of grpc.aio and by a bare socket.

    sudo .venv/bin/python bench/slow_links/measure.py --out bench/results/slow_links.json

Two processes on two hosts inside this machine (link.py), all over mutual TLS. Then the same with the link
dead for a while from when half of the chunks are there. `--megabits`, `--delay` and `--sizes` choose others.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from qkt_bench.transport.load import ASKER, MIB, TEACHER, Load
from qkt_bench.transport.run import prepared
from qkt_node.versions import versions
from slow_links.link import HOSTS, Link, LinkError, Speed

if TYPE_CHECKING:
    from collections.abc import Iterator

WAYS: Final = ("qkt", "grpc.aio", "socket")
WAYS_CUT: Final = ("qkt", "grpc.aio")
LONG_SECONDS: Final = 20.0
"""A transfer that takes longer at the least is made once."""

END: Final = Path(__file__).with_name("end.py")
CONGESTION: Final = Path("/proc/sys/net/ipv4/tcp_congestion_control")


@dataclass(frozen=True, slots=True)
class Case:
    """One transfer; the link is dead for `dead_seconds` in its middle."""

    way: str
    megabits: float
    megabytes: int
    dead_seconds: float = 0.0


def main() -> int:
    """Measure, print, and store where asked for; 1, with the reason, where this machine gives no link."""
    options = _parsed()
    load_before = os.getloadavg()
    try:
        with TemporaryDirectory(prefix="qkt-bench-") as folder:
            loads = {
                size: prepared(Path(folder) / str(size), size, options.chunk_kib) for size in options.sizes
            }
            taken = [
                turn for case in _cases(options) for turn in _turns(case, loads[case.megabytes], options)
            ]
    except LinkError as error:
        sys.stderr.write(f"no link could be made: {error}\n")
        return 1
    figures = {
        "rows": [_row(case, taken) for case in _cases(options)],
        "delay_seconds": options.delay,
        "chunk_kib": options.chunk_kib,
        "congestion_control": CONGESTION.read_text().strip(),
        "cores": os.cpu_count(),
        "load_average": {"before": load_before, "after": os.getloadavg()},
        "versions": versions(),
        "transfers": taken,
    }
    text = json.dumps(figures, indent=2)
    sys.stdout.write(f"{text}\n")
    if options.out is not None:
        options.out.write_text(f"{text}\n")
    return 0


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--megabits", type=float, nargs="+", default=[1.0, 10.0, 100.0], help="a second")
    parser.add_argument("--delay", type=float, default=0.025, help="seconds, one way")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 8], help="MiB")
    parser.add_argument("--chunk-kib", type=int, default=512)
    parser.add_argument("--dead-seconds", type=float, nargs="+", default=[5.0, 20.0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="file to store the figures in")
    return parser.parse_args()


def _cases(options: argparse.Namespace) -> Iterator[Case]:
    for megabits in options.megabits:
        for size in options.sizes:
            yield from (Case(way, megabits, size) for way in WAYS)
        for seconds in options.dead_seconds:
            yield from (Case(way, megabits, max(options.sizes), seconds) for way in WAYS_CUT)


def _turns(case: Case, load: Load, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    least = case.megabytes * MIB * 8 / (case.megabits * 1e6) + case.dead_seconds
    repeats = 1 if least > LONG_SECONDS else options.repeats
    for turn in range(repeats):
        sys.stderr.write(f"{case}, {turn + 1} of {repeats}\n")
        yield {**_as_keys(case), **transfer(case, load, Speed(case.megabits * 1e6, options.delay))}


def _as_keys(case: Case) -> dict[str, Any]:
    return {
        "way": case.way,
        "megabits_per_second": case.megabits,
        "megabytes": case.megabytes,
        "dead_seconds": case.dead_seconds,
    }


def transfer(case: Case, load: Load, speed: Speed) -> dict[str, Any]:
    """Return what one transfer told, between two new processes over a new link; raises LinkError."""
    load = replace(load, host=HOSTS[TEACHER])
    with (
        Link(speed) as link,
        _end(link, case, load, TEACHER, port=0) as teacher,
        _end(link, case, load, ASKER, port=_heard(teacher)["port"]) as asker,
    ):
        _heard(asker)
        assert asker.stdin is not None
        asker.stdin.write("\n")
        asker.stdin.flush()
        _heard(asker)
        if case.dead_seconds:
            link.cut(case.dead_seconds)
        return _heard(asker)


def _row(case: Case, taken: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the medians of the transfers of a case that came to their end, and how many of them did.

    Of the link's rate, the part that the payload alone had; of a dead link, what it cost beyond its duration.
    """
    turns = _turns_of(case, taken)
    came = [turn["seconds"] for turn in turns if "failed" not in turn]
    row = {**_as_keys(case), "turns": len(turns), "came": len(came)}
    if not came:
        return {**row, "given_up_after_seconds": median(turn["seconds"] for turn in turns)}
    row["seconds"] = median(came)
    if not case.dead_seconds:
        return {**row, "of_the_rate": case.megabytes * MIB * 8 / row["seconds"] / (case.megabits * 1e6)}
    usual = median(turn["seconds"] for turn in _turns_of(replace(case, dead_seconds=0.0), taken))
    return {**row, "cost_seconds": row["seconds"] - usual - case.dead_seconds}


def _turns_of(case: Case, taken: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [turn for turn in taken if _as_keys(case).items() <= turn.items()]


@contextmanager
def _end(link: Link, case: Case, load: Load, side: str, *, port: int) -> Iterator[subprocess.Popen[str]]:
    command = [*link.on(side), sys.executable, str(END), case.way, side, str(port), load.as_text()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _heard(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"an end failed: {process.args!r}")
    answer: dict[str, Any] = json.loads(line)
    return answer


if __name__ == "__main__":
    sys.exit(main())
