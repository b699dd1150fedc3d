"""The process of one end: `python -m qkt_bench.transport.end WAY SIDE PORT LOAD`, driven by run.py.

It says one JSON object a line: first its port, then an answer to each word that it reads. "trips": seconds of
unary round trips; "fetch": what a transfer took; "begin" and "report": what another end's transfer took
here. It ends with its standard input.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from qkt_bench.transport.load import TEACHER, load_from
from qkt_bench.transport.meter import Meter
from qkt_bench.transport.ways import WAYS
from qkt_node.allocator import reuse_buffers
from qkt_node.log import configure_logging

if TYPE_CHECKING:
    from qkt_bench.transport.ends import Asking, End

TRIPS: Final = 200
"""Round trips of which the median is taken, after as many for warming up."""


async def main(way: str, side: str, port: str, load: str) -> None:
    """Open the end and do as told."""
    configure_logging("json", "error")
    if WAYS[way].as_daemons:
        reuse_buffers()
    opening = WAYS[way].teacher if side == TEACHER else WAYS[way].asker
    async with opening(load_from(load), int(port)) as end:
        _say({"port": end.port})
        await _obey(end)


async def _obey(end: End) -> None:
    meter = Meter()
    while word := (await asyncio.to_thread(sys.stdin.readline)).strip():
        if word == "begin":
            meter = Meter()
            _say({})
        elif word == "report":
            _say(meter.read())
        elif end.asking is None:
            raise ValueError(f"only the asker's end can {word}")
        elif word == "trips":
            _say({"seconds": await _trips(end.asking)})
        else:
            _say(await _fetch(end.asking))


async def _trips(asking: Asking) -> list[float]:
    taken = []
    for _ in range(2 * TRIPS):
        begun = time.perf_counter()
        await asking.round_trip()
        taken.append(time.perf_counter() - begun)
    return taken[TRIPS:]


async def _fetch(asking: Asking) -> dict[str, float]:
    arrivals: list[float] = []
    meter = Meter()
    begun = time.perf_counter()
    await asking.fetch(lambda: arrivals.append(time.perf_counter()))
    seconds = time.perf_counter() - begun
    return {"seconds": seconds, "first_chunk_seconds": arrivals[0] - begun, **meter.read()}


def _say(told: dict[str, Any]) -> None:
    sys.stdout.write(f"{json.dumps(told)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
