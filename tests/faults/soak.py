"""The soak: many random schedules in the arena, and the kill at each tenth of a stream, as JSON.

    GRPC_VERBOSITY=NONE python -m tests.faults.soak --schedules 1000 --seed 1 --out soak.json

Exit code 1 where a query broke a rule or this process holds more than it did.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import json
import logging
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import psutil
import structlog

from qkt_node.cluster.chaos.schedule import Fault, Schedule, draw_schedule
from qkt_p2p.transport.client import Deadlines
from tests.faults.arena import Arena
from tests.faults.bank import CHUNKS_PER_CLASS, KNOWLEDGE
from tests.faults.federation import ASKER, Members
from tests.faults.run import LATE_SECONDS, End

BATCH = 100
"""Schedules between two looks at what this process holds."""

QUIET_SECONDS = 30.0
"""Connections that are still there so long after their query leak."""

QUERY_SECONDS = 5.0
DEADLINES = Deadlines(call=2.0, heartbeat=2.0, probe=2.0, stall=1.0)
"""Shorter than usual, so that what hangs costs little time."""

PACE = 0.005
"""Seconds between chunks, so that a stream lasts long enough for something to befall it."""

ROOM = {"mebibytes": 16.0, "files": 4, "sockets": 4, "tasks": 0}
"""How much more the process may hold after the last batch than after the first."""


def holdings() -> dict[str, float]:
    """Return what this process holds between two batches."""
    gc.collect()
    # What the allocator keeps for later is no leak.
    ctypes.CDLL(None).malloc_trim(0)
    process = psutil.Process()
    return {
        "mebibytes": round(process.memory_info().rss / 2**20, 1),
        "files": process.num_fds(),
        "sockets": len(process.net_connections(kind="all")),
        "tasks": len(asyncio.all_tasks()),
    }


async def soak(arenas: Sequence[Arena], seeds: Sequence[int]) -> tuple[list[End], list[dict[str, float]]]:
    """Run one schedule for each seed, some at once; return their ends, and what was held after each batch."""
    ends: list[End] = []
    held: list[dict[str, float]] = []
    for start in range(0, len(seeds), BATCH):
        waiting = list(reversed(seeds[start : start + BATCH]))

        async def work(arena: Arena, waiting: list[int] = waiting) -> None:
            while waiting:
                seed = waiting.pop()
                end = await arena.run(
                    draw_schedule(seed, asker=ASKER, teachers=list(KNOWLEDGE)), seconds=QUERY_SECONDS
                )
                ends.append(end)
                for problem in end.problems:
                    sys.stderr.write(f"seed {seed}: {problem}\n")

        await asyncio.gather(*(work(arena) for arena in arenas))
        # The traceback of a query that failed holds its call, and so its connection, until then.
        gc.collect()
        async with asyncio.timeout(QUIET_SECONDS):
            for arena in arenas:
                await arena.quiet()
        held.append(holdings())
        sys.stderr.write(f"{len(ends)} of {len(seeds)}: {held[-1]}\n")
    return ends, held


async def kills(arena: Arena) -> list[dict[str, Any]]:
    """Return a row for each tenth of a stream at which its teacher is killed, to start again soon."""
    usual = await arena.run(Schedule(0, ()))
    rows = []
    for arrived in range(1, 2 * arena.pieces + 1):
        kill = Fault("collect", 0.0, "second", "kill", {}, 0.1)
        end = await arena.run(Schedule(arrived, ()), at_chunk={("second", arrived): kill})
        rows.append(
            {
                "killed_at": f"{arrived / (2 * arena.pieces):.0%}",
                "end": end.outcome,
                "teacher": end.teachers["second"],
                "same_lessons": end.learned == usual.learned,
                "chunks": end.chunks,
                "fetched_twice": end.repeated,
                "bytes": end.bytes,
                "bytes_without": usual.bytes,
                "seconds": round(end.seconds, 2),
                "problems": list(end.problems),
            }
        )
    return rows


def summary(ends: Sequence[End], held: Sequence[dict[str, float]], *, seconds: float) -> dict[str, Any]:
    """Return what the ends have in common."""
    by_kind: dict[str, Counter[str]] = {}
    for end in ends:
        for kind in {fault.kind for fault in end.schedule.faults}:
            by_kind.setdefault(kind, Counter())[end.outcome] += 1
    broken = {end.schedule.seed: list(end.problems) for end in ends if end.problems}
    return {
        "schedules": len(ends),
        "seconds": round(seconds, 1),
        "ends": dict(Counter(end.outcome for end in ends)),
        "failed_because": dict(Counter(_cause(end) for end in ends if end.outcome == "failed")),
        "ends_by_fault": {kind: dict(found) for kind, found in sorted(by_kind.items())},
        "deadline_seconds": QUERY_SECONDS,
        "late_allowed_seconds": LATE_SECONDS,
        "longest_seconds": round(max(end.seconds for end in ends), 2),
        "latest_seconds": round(max(end.seconds - end.stalled - QUERY_SECONDS for end in ends), 2),
        "longest_stall_of_this_machine": round(max(end.stalled for end in ends), 2),
        "responses_used_in_part": sum(end.parts for end in ends),
        "chunks_arrived": sum(end.chunks for end in ends),
        "chunks_fetched_twice": sum(end.repeated for end in ends),
        "broken": broken,
        "held_after_each_batch": list(held),
        "leaks": [name for name, room in ROOM.items() if held[-1][name] - held[0][name] > room],
    }


def _cause(end: End) -> str:
    """Return the first words of a reason, which are the same for all classes and peers."""
    # A path is that of one query.
    return " ".join([word for word in end.reason.split() if not word.startswith("/")][:4])


async def main(arguments: argparse.Namespace) -> int:
    """Run it, write the results, and return the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        members = Members.found(Path(folder))
        async with AsyncExitStack() as stack:
            arenas = [
                await stack.enter_async_context(
                    Arena(
                        members,
                        Path(folder),
                        seed=number,
                        pace=PACE * CHUNKS_PER_CLASS / arguments.pieces,
                        pieces=arguments.pieces,
                        deadlines=DEADLINES,
                    )
                )
                for number in range(arguments.jobs)
            ]
            table = await kills(arenas[0])
            began = time.monotonic()
            seeds = range(arguments.seed, arguments.seed + arguments.schedules)
            ends, held = await soak(arenas, seeds)
            found = summary(ends, held, seconds=time.monotonic() - began)
    command = f"python -m tests.faults.soak --schedules {arguments.schedules} --seed {arguments.seed}"
    if arguments.pieces != CHUNKS_PER_CLASS:
        command += f" --pieces {arguments.pieces}"
    found = {"command": command, "jobs": arguments.jobs, **found, "teacher_killed_at_each_tenth": table}
    text = json.dumps(found, indent=1)
    if arguments.out is not None:
        arguments.out.write_text(text + "\n")
    sys.stdout.write(text + "\n")
    return int(bool(found["broken"] or found["leaks"] or any(row["problems"] for row in table)))


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--schedules", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=4, help="arenas in which schedules run at once")
    parser.add_argument("--pieces", type=int, default=CHUNKS_PER_CLASS, help="chunks of a class; 1: recipes")
    parser.add_argument("--out", type=Path)
    sys.exit(asyncio.run(main(parser.parse_args())))
