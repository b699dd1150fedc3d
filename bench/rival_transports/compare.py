r"""One query's bytes through this transport against the same by Flower's and p2pfl's own way of sending.

    python -m venv /tmp/flower && /tmp/flower/bin/pip install -r bench/rival_transports/flower.txt
    python -m venv /tmp/p2pfl && /tmp/p2pfl/bin/pip install -r bench/rival_transports/p2pfl.txt
    python bench/rival_transports/compare.py --flower /tmp/flower/bin/python --p2pfl /tmp/p2pfl/bin/python \
        --out bench/results/rival_transports.json

Always two processes on loopback, the ways in turn. Ours goes from journal to journal, each chunk checked by
its digest, over mutual TLS. Theirs go from arrays to arrays in memory: Flower's over TLS that proves the
server alone, p2pfl's over mutual TLS.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import psutil

from qkt_bench.transport.load import ASKER, TEACHER, Load
from qkt_bench.transport.run import prepared, transfer
from qkt_node.versions import versions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HERE: Final = Path(__file__).parent
CHUNK_KIB: Final = 512
KEY: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
Taken = dict[str, float]


def main() -> None:
    """Compare, print, and store where asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--flower", required=True, help="a Python that has Flower")
    parser.add_argument("--p2pfl", required=True, help="a Python that has p2pfl")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 16, 64], help="MiB")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="file to store the figures in")
    options = parser.parse_args()
    load_before = os.getloadavg()
    with TemporaryDirectory(prefix="qkt-bench-") as folder:
        certify(Path(folder))
        rows = [row for size in options.sizes for row in _rows(Path(folder), size, options)]
    figures = {
        "rows": rows,
        "repeats": options.repeats,
        "cores": os.cpu_count(),
        "load_average": {"before": load_before, "after": os.getloadavg()},
        "requirements": {name: (HERE / f"{name}.txt").read_text() for name in ("flower", "p2pfl")},
        "versions": versions(),
    }
    text = json.dumps(figures, indent=2)
    sys.stdout.write(f"{text}\n")
    if options.out is not None:
        options.out.write_text(f"{text}\n")


def _rows(folder: Path, mebibytes: int, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    load = prepared(folder / str(mebibytes), mebibytes, CHUNK_KIB)
    rivals = {"flower": (options.flower, "receive"), "p2pfl": (options.p2pfl, "send")}
    taken: dict[str, list[Taken]] = {way: [] for way in ("qkt", *rivals)}
    for _ in range(options.repeats):
        taken["qkt"].append(ours(load))
        for way, (python, driving) in rivals.items():
            taken[way].append(theirs(way, python, driving, folder=folder, mebibytes=mebibytes))
    for way, turns in taken.items():
        yield {
            "way": way,
            "megabytes": mebibytes,
            **{key: median(turn[key] for turn in turns) for key in turns[0]},
        }


def ours(load: Load) -> Taken:
    """Return what one transfer took, which is the first of its processes: seconds, and processor seconds."""
    took = transfer("qkt", load)
    return {
        "first_seconds": took["seconds"],
        "seconds": took["seconds"],
        "sender": took[TEACHER]["processor_seconds"],
        "receiver": took[ASKER]["processor_seconds"],
    }


def theirs(way: str, python: str, driving: str, *, folder: Path, mebibytes: int) -> Taken:
    """Return the same of a rival: the first exchange's seconds, and means over as many more as make 64 MiB.

    The `driving` end makes an exchange for each line.
    """
    words = (str(_free_port()), str(folder), str(mebibytes))
    count = max(1, 64 // mebibytes)
    with _end(python, way, "receive", words) as receiver, _end(python, way, "send", words) as sender:
        driver = receiver if driving == "receive" else sender
        first = _told(driver)["seconds"]
        before = {"sender": _processor_seconds(sender), "receiver": _processor_seconds(receiver)}
        seconds = fmean(_told(driver)["seconds"] for _ in range(count))
        used = {
            "sender": _processor_seconds(sender) - before["sender"],
            "receiver": _processor_seconds(receiver) - before["receiver"],
        }
        assert receiver.stdin is not None
        receiver.stdin.close()
        _heard(receiver)
    return {"first_seconds": first, "seconds": seconds, **{end: spent / count for end, spent in used.items()}}


@contextmanager
def _end(python: str, way: str, side: str, words: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """Run one end until the block ends; it is ready at its beginning."""
    command = [python, str(HERE / f"{way}_end.py"), side, *words]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=words[1], text=True
    ) as process:
        try:
            _heard(process)
            yield process
        finally:
            process.kill()


def _told(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return _heard(process)


def _heard(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Return the next object that the end says; what others write to its output is passed over."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("{"):
            answer: dict[str, Any] = json.loads(line)
            return answer
    raise RuntimeError(f"an end failed: {process.args!r}")


def _processor_seconds(process: subprocess.Popen[str]) -> float:
    times = psutil.Process(process.pid).cpu_times()
    return float(times.user + times.system)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def certify(folder: Path) -> None:
    """Have openssl make an authority, and a certificate for this machine's loopback that both ends show."""
    authority = ("-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=bench authority", "-days", "2")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost")
    for words in (
        ("req", "-x509", *KEY, *authority),
        ("req", *KEY, "-keyout", "node.key", "-out", "node.csr", "-subj", "/CN=bench"),
        (
            *("x509", "-req", "-in", "node.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"),
            *("-days", "2", "-extfile", "names", "-out", "node.crt"),
        ),
    ):
        subprocess.run(("openssl", *words), cwd=folder, capture_output=True, check=True)


if __name__ == "__main__":
    main()
