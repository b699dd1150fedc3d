"""What membership costs a node, and how well it works, in federations of several sizes.

    python -m qkt_bench.network.membership --nodes 10 50 200 --out bench/results/membership.json

All nodes run in this process (town.py) over the in-memory transport and on a virtual clock
(virtual_time.py): figures repeat, and a network without delay is assumed. 200 nodes take some minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any, Final

from qkt_bench.network.town import Town
from qkt_bench.network.virtual_time import run_in_virtual_time
from qkt_node.log import configure_logging
from qkt_node.versions import versions

if TYPE_CHECKING:
    from collections.abc import Callable

    from qkt_p2p.types import PeerId

SETTLE_SECONDS: Final = 30.0
"""Pause after all know all, in which nodes connect to their neighbours and to nobody else."""

PARTITION_SECONDS: Final = 120.0
"""Time for which half of the federation is cut off from the other half."""

WIRE_BYTES_PER_CALL: Final = 920
"""What the network carries for a call whose messages are empty: headers of HTTP/2, TLS, TCP, IP and Ethernet,
acknowledgements, keep-alive. Measured with two idle daemons on two hosts (network namespaces): 58 kB in a
minute of 63 calls."""

PATIENCE_SECONDS: Final = 600.0
"""Longest wait, on the virtual clock, for what should happen."""


@dataclass(frozen=True, slots=True)
class Result:
    """One federation. Costs are per node and minute, seconds those of the virtual clock.

    `bytes` are those of messages, `wire_bytes` an estimate of all that the network carries. `seen_live` is
    the least share of its live peers that any node saw as live at any second of the count.
    """

    nodes: int
    messages: float
    messages_most: float
    messages_by_call: dict[str, float]
    bytes: float
    bytes_most: float
    wire_bytes: float
    dials: float
    connections: float
    connections_most: int
    seen_live: float
    seconds_until_all_know_all: float
    seconds_until_a_healed_partition_is_forgotten: float
    seconds_until_death_is_known_by_half: float
    seconds_until_death_is_known_by_all: float
    seconds_of_processor: float


async def measure(size: int, seconds: float) -> Result:
    """Found a federation, let it settle, count for `seconds`, part and heal it, then kill one node."""
    processor = time.process_time()
    town = Town(size)
    town.start()
    joined = await _until(town.all_know_all)
    await asyncio.sleep(SETTLE_SECONDS)
    costs = await _count(town, seconds)
    town.cut_off = {node.peer for node in town.nodes[::2]}
    await asyncio.sleep(PARTITION_SECONDS)
    town.cut_off = set()
    healed = await _until(town.all_know_all)
    await asyncio.sleep(SETTLE_SECONDS)
    victim = town.nodes[size // 2]
    await town.kill(victim)
    half = await _until(lambda: _believers(town, victim.peer) <= size // 2)
    rest = await _until(lambda: _believers(town, victim.peer) == 0)
    await town.stop()
    return Result(
        nodes=size,
        **costs,
        seconds_until_all_know_all=joined,
        seconds_until_a_healed_partition_is_forgotten=healed,
        seconds_until_death_is_known_by_half=half,
        seconds_until_death_is_known_by_all=half + rest,
        seconds_of_processor=time.process_time() - processor,
    )


async def _count(town: Town, seconds: float) -> dict[str, Any]:
    """Return the costs of a Result."""
    for node in town.nodes:
        town.tallies[node.peer].reset()
    seen = 1.0
    for _ in range(int(seconds)):
        await asyncio.sleep(1.0)
        seen = min(seen, min(node.live() for node in town.nodes) / (len(town.nodes) - 1))
    minutes = seconds / 60
    tallies = [town.tallies[node.peer] for node in town.nodes]
    messages = [tally.messages.total() / minutes for tally in tallies]
    sizes = [tally.bytes / minutes for tally in tallies]
    links = [len(node.contacts.reachable()) for node in town.nodes]
    calls = sum((tally.messages for tally in tallies), Counter[str]())
    return {
        "messages": mean(messages),
        "messages_most": max(messages),
        "messages_by_call": {name: count / len(tallies) / minutes for name, count in calls.items()},
        "bytes": mean(sizes),
        "bytes_most": max(sizes),
        "wire_bytes": mean(sizes) + mean(messages) / 2 * WIRE_BYTES_PER_CALL,
        "dials": mean(tally.dials for tally in tallies) / minutes,
        "connections": mean(links),
        "connections_most": max(links),
        "seen_live": seen,
    }


def _believers(town: Town, dead: PeerId) -> int:
    return sum(any(member.peer == dead for member in node.membership.live()) for node in town.nodes)


async def _until(condition: Callable[[], bool]) -> float:
    """Return after how many whole seconds the condition held."""
    started = asyncio.get_running_loop().time()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            if condition():
                return asyncio.get_running_loop().time() - started
            await asyncio.sleep(1.0)


def main() -> None:
    """Measure the sizes asked for, show them, and write them where asked."""
    parser = argparse.ArgumentParser(description="What membership costs a node.")
    parser.add_argument("--nodes", type=int, nargs="+", default=[10, 50, 200])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    configure_logging(level="error")
    results = []
    for size in asked.nodes:
        random.seed(asked.seed)
        result = run_in_virtual_time(measure(size, asked.seconds))
        results.append(asdict(result))
        sys.stdout.write(f"{json.dumps(results[-1])}\n")
        sys.stdout.flush()
    if asked.out:
        about = {"seed": asked.seed, "seconds": asked.seconds, "versions": versions()}
        asked.out.write_text(json.dumps({**about, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
