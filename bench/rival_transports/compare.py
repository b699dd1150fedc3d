r"""One query's bytes through this transport against the same by Flower's and p2pfl's own way of sending.

    python -m venv /tmp/flower && /tmp/flower/bin/pip install -r bench/rival_transports/flower.txt
    python -m venv /tmp/p2pfl && /tmp/p2pfl/bin/pip install -r bench/rival_transports/p2pfl.txt
    python bench/rival_transports/compare.py --flower /tmp/flower/bin/python --p2pfl /tmp/p2pfl/bin/python \
        --out bench/results/rival_transports.json

All on loopback, the ways in turn. Ours goes from journal to journal, each chunk checked by its digest, over
mutual TLS. Theirs go from arrays to arrays in memory: Flower's over TLS that proves the server alone, p2pfl's
over mutual TLS. Between two processes each, but for Flower's newer way: superlink.py tells what stands there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from qkt_bench.transport.load import ASKER, TEACHER, Load
from qkt_bench.transport.run import prepared, transfer
from qkt_node.versions import versions
from rival_transports import superlink
from rival_transports.processes import HERE, end, free_port, heard, processor_seconds, told

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rival_transports.processes import Taken

SUPERLINK: Final = "flower, SuperLink"
CHUNK_KIB: Final = 512
KEY: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


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
        with_pauses = [_with_pauses(Path(folder), size, options) for size in options.sizes]
    figures = {
        "rows": rows,
        "superlink_with_pauses": with_pauses,
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
    taken: dict[str, list[Taken]] = {way: [] for way in ("qkt", *rivals, SUPERLINK)}
    for _ in range(options.repeats):
        taken["qkt"].append(ours(load))
        taken[SUPERLINK].append(by_superlink(options.flower, folder, mebibytes))
        for way, (python, driving) in rivals.items():
            taken[way].append(theirs(way, python, driving, folder=folder, mebibytes=mebibytes))
    for way, turns in taken.items():
        yield {
            "way": way,
            "megabytes": mebibytes,
            "by_qkt": _median_ratio(turns, taken["qkt"]),
            **{key: median(turn[key] for turn in turns) for key in turns[0]},
        }


def _with_pauses(folder: Path, mebibytes: int, options: argparse.Namespace) -> dict[str, Any]:
    """Return what exchanges take as Flower's users have them: with a SuperNode and its ClientApp."""
    turns = superlink.exchanges(options.flower, folder, mebibytes, count=options.repeats, pauses=True)
    return {"megabytes": mebibytes, "seconds": [turn["seconds"] for turn in turns]}


def _median_ratio(turns: Sequence[Taken], ours: Sequence[Taken]) -> dict[str, float]:
    """Return how many times as long as this project's transfer in the same turn."""
    return {
        key: median(turn[key] / mine["seconds"] for turn, mine in zip(turns, ours, strict=True))
        for key in ("first_seconds", "seconds")
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
    words = (str(free_port()), str(folder), str(mebibytes))
    count, script = _further(mebibytes), f"{way}_end.py"
    with (
        end(python, script, ("receive", *words), folder=folder) as receiver,
        end(python, script, ("send", *words), folder=folder) as sender,
    ):
        driver = receiver if driving == "receive" else sender
        first = told(driver)["seconds"]
        before = {"sender": processor_seconds(sender), "receiver": processor_seconds(receiver)}
        seconds = fmean(told(driver)["seconds"] for _ in range(count))
        used = {
            "sender": processor_seconds(sender) - before["sender"],
            "receiver": processor_seconds(receiver) - before["receiver"],
        }
        assert receiver.stdin is not None
        receiver.stdin.close()
        heard(receiver)
    return {"first_seconds": first, "seconds": seconds, **{end: spent / count for end, spent in used.items()}}


def by_superlink(python: str, folder: Path, mebibytes: int) -> Taken:
    """Return the same of Flower's newer way, with the processor seconds of the SuperLink: `between`.

    It is the mean of four at most, which differ less than others' and take longer.
    """
    count = 1 + min(4, _further(mebibytes))
    first, *further = superlink.exchanges(python, folder, mebibytes, count=count)
    return {"first_seconds": first["seconds"], **{key: fmean(turn[key] for turn in further) for key in first}}


def _further(mebibytes: int) -> int:
    return max(1, 64 // mebibytes)


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
