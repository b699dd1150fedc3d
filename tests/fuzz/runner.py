"""Runs targets one after the other, each in a process of its own, and says what came of it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from tests.fuzz.target import corpus_of, find, save_corpus

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / ".fuzz"
"""What is found stays here from run to run: corpus/TARGET/ and findings/."""

INPUT_SECONDS = 20
"""An input that takes longer hangs."""

INPUT_BYTES = 4096
"""Longest input that is made up; a seed may be longer."""

MOST_MIB = 2048
GROWTH_MIB = 32.0
"""Memory that a target may take above what it took after its first seconds."""

KEPT_BYTES = 32 * 1024
"""What is kept of a target's inputs in the repository."""

_PROGRESS = re.compile(r"^#\d+\s+\w+\s+cov: (\d+) ft: (\d+) corp: (\d+)/", re.M)
_FINAL = re.compile(r"^stat::(\w+):\s+(\d+)", re.M)
_WRITTEN = re.compile(r"Test unit written to (\S+)")


@dataclass(frozen=True)
class Outcome:
    """What fuzzing one target did; memory is resident, MiB, `finding` the input that failed, or why."""

    inputs: int
    inputs_per_second: int
    edges: int
    features: int
    corpus: int
    slowest_seconds: int
    mib_warm: float
    mib_highest: float
    mib_end: float
    finding: str = ""


def fuzz(name: str, seconds: int, inputs: int) -> Outcome:
    """Fuzz one target for so long or with so many inputs (0: any), beginning with what is known of it."""
    corpus, findings = WORK / "corpus" / name, WORK / "findings"
    findings.mkdir(parents=True, exist_ok=True)
    fill(corpus, [*find_seeds(name), *corpus_of(name)])
    arguments = [
        f"-max_total_time={seconds}",
        f"-runs={inputs or -1}",
        f"-timeout={INPUT_SECONDS}",
        f"-rss_limit_mb={MOST_MIB}",
        f"-max_len={max([INPUT_BYTES, *(path.stat().st_size for path in corpus.iterdir())])}",
        f"-artifact_prefix={findings}/{name}-",
        "-print_final_stats=1",
        *_dictionary(name),
    ]
    done, memory = _child(name, [*arguments, str(corpus)])
    return outcome_of(done.stderr, memory, code=done.returncode)


def outcome_of(told: str, memory: dict[str, float], *, code: int) -> Outcome:
    """Return what libFuzzer's report and the child's notes amount to."""
    final = {key: int(value) for key, value in _FINAL.findall(told)}
    edges, features, corpus = map(int, (_PROGRESS.findall(told) or [(0, 0, 0)])[-1])
    grown = memory["mib_end"] - memory["mib_warm"]
    finding = ""
    if code:
        written = _WRITTEN.search(told)
        finding = written[1] if written else told[-2000:]
    elif grown > GROWTH_MIB:
        finding = f"memory grew by {grown:.1f} MiB"
    return Outcome(
        inputs=final.get("number_of_executed_units", 0),
        inputs_per_second=final.get("average_exec_per_sec", 0),
        edges=edges,
        features=features,
        corpus=corpus,
        slowest_seconds=final.get("slowest_unit_time_sec", 0),
        **memory,
        finding=finding,
    )


def keep(name: str) -> int:
    """Keep in the repository a least set of inputs that reaches all that is reached; return how many."""
    with tempfile.TemporaryDirectory() as folder:
        done, _ = _child(name, ["-merge=1", folder, str(WORK / "corpus" / name)])
        done.check_returncode()
        found = sorted((path.read_bytes() for path in Path(folder).iterdir()), key=len)
    # What code makes anew need not be kept.
    seeds = set(find_seeds(name))
    kept: list[bytes] = []
    for data in found:
        if data not in seeds and sum(map(len, kept)) + len(data) <= KEPT_BYTES:
            kept.append(data)
    save_corpus(name, kept)
    return len(kept)


def note(report: Path, name: str, made: Outcome, *, command: Sequence[str]) -> None:
    """Put what came of one target into a report, in place of what was there; what others brought stays."""
    before = json.loads(report.read_text())["targets"] if report.exists() else {}
    targets = {**before, name: {"command": " ".join(command), **asdict(made)}}
    found = {
        "python": platform.python_version(),
        "atheris": version("atheris"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, shared",
        "inputs": sum(each["inputs"] for each in targets.values()),
        "findings": [each for each in targets if targets[each]["finding"]],
        "targets": dict(sorted(targets.items())),
    }
    report.write_text(f"{json.dumps(found, indent=2)}\n")


def find_seeds(name: str) -> list[bytes]:
    """Return the inputs that a target begins with."""
    return list(find(name).seeds())


def fill(folder: Path, inputs: Sequence[bytes]) -> None:
    """Put inputs into a folder, each under the digest of its content, as libFuzzer does."""
    folder.mkdir(parents=True, exist_ok=True)
    for data in inputs:
        (folder / hashlib.sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)


def _dictionary(name: str) -> list[str]:
    words = find(name).dictionary
    if not words:
        return []
    path = WORK / f"{name}.dict"
    path.write_text("".join('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in words))
    return [f"-dict={path}"]


def _child(name: str, arguments: Sequence[str]) -> tuple[subprocess.CompletedProcess[str], dict[str, float]]:
    """Run the child; return how it ended and what it noted of its memory."""
    places = [str(ROOT), str(ROOT / "node")]
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        statistics = Path(folder) / "statistics.json"
        environ = os.environ | {
            "PYTHONPATH": os.pathsep.join(places),
            "TMPDIR": folder,
            "OMP_NUM_THREADS": "1",
        }
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.child", name, str(statistics), *arguments],
            cwd=ROOT,
            env=environ,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        noted = json.loads(statistics.read_text()) if statistics.exists() else {}
    return done, {key: float(noted.get(key, 0)) for key in ("mib_warm", "mib_highest", "mib_end")}
