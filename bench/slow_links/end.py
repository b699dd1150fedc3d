"""The process of one end: `python end.py WAY SIDE PORT LOAD`, driven by measure.py.

It says one JSON object a line: first its port; the asker's then, for each line that it reads, that half of
the chunks are there, and at last what it took. It ends with its standard input.
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
import time
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any, Final

import grpc

from qkt_bench.transport.load import ASKER, REQUEST, TEACHER, load_from
from qkt_bench.transport.member import BEAT
from qkt_bench.transport.ways import WAYS
from qkt_node.allocator import reuse_buffers
from qkt_node.log import configure_logging
from qkt_p2p.asking.collection import Collection
from qkt_p2p.asking.retry import USUAL_PATIENCE
from qkt_p2p.asking.transfers import Transfer, TransferContext
from qkt_p2p.errors import PeerUnavailableError, QktError
from qkt_p2p.limits import HEARTBEAT_SECONDS
from qkt_p2p.outcome import TeacherOutcome
from qkt_p2p.transport.dialer import TlsDialer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from qkt_bench.transport.ends import Arrived
    from qkt_bench.transport.load import Load
    from qkt_p2p.store.journal import Journal
    from qkt_p2p.transport.client import PeerClient

    Fetch = Callable[[Arrived], Awaitable[dict[str, Any]]]

LONGEST_SECONDS: Final = 300.0
"""A bare stream waits for ever where the other end's goodbye was lost."""


async def main(way: str, side: str, port: str, text: str) -> None:
    """Open the end, and fetch when told."""
    configure_logging("json", "critical")
    if way == "qkt":
        reuse_buffers()
    load = load_from(text)
    async with AsyncExitStack() as stack:
        if side == TEACHER:
            end = await stack.enter_async_context(WAYS[way].teacher(load, 0))
            say({"port": end.port})
            await asyncio.to_thread(sys.stdin.readline)
            return
        fetch = await (_qkt if way == "qkt" else _bare)(way, load, int(port), stack)
        say({"port": 0})
        while await asyncio.to_thread(sys.stdin.readline):
            say(await _timed(fetch, load.chunks))


async def _timed(fetch: Fetch, chunks: int) -> dict[str, Any]:
    arrivals: list[float] = []

    def arrived() -> None:
        arrivals.append(time.perf_counter() - begun)
        if len(arrivals) == chunks // 2:
            say({"half": True})

    begun = time.perf_counter()
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            told = await fetch(arrived)
    except (QktError, grpc.RpcError, TimeoutError) as error:
        told = {"failed": str(error) or "no end"}
    seconds = time.perf_counter() - begun
    pauses = [later - sooner for sooner, later in zip([0.0, *arrivals], [*arrivals, seconds], strict=True)]
    return {"seconds": seconds, "longest_pause_seconds": max(pauses), **told}


async def _bare(way: str, load: Load, port: int, stack: AsyncExitStack) -> Fetch:
    end = await stack.enter_async_context(WAYS[way].asker(load, port))
    assert end.asking is not None
    asking = end.asking
    await asking.round_trip()

    async def fetch(arrived: Arrived) -> dict[str, Any]:
        await asking.fetch(arrived)
        return {}

    return fetch


async def _qkt(_way: str, load: Load, port: int, stack: AsyncExitStack) -> Fetch:
    """Return what gets the response as a query does, through breaks, while it beats as a daemon does."""
    peer = load.standing(TEACHER).identity.peer_id
    client = TlsDialer(load.standing(ASKER)).connect(peer, f"{load.host}:{port}")
    stack.push_async_callback(client.close)
    journal = load.journal(ASKER)
    stack.callback(journal.close)
    await client.heartbeat(BEAT)

    async def fetch(arrived: Arrived) -> dict[str, Any]:
        beats: list[float] = []
        beating = asyncio.create_task(_beat(client, beats))
        try:
            teacher = await _fetched(client, journal, arrived)
        finally:
            beating.cancel()
            with suppress(asyncio.CancelledError):
                await beating
            journal.drop_responses(REQUEST.query_id)
        return {
            "streams": teacher.attempts,
            "bytes_received": client.bytes_received,
            "beats": len(beats),
            "beats_lost": beats.count(math.inf),
            "slowest_beat_seconds": max((each for each in beats if each < math.inf), default=None),
        }

    return fetch


async def _fetched(client: PeerClient, journal: Journal, arrived: Arrived) -> TeacherOutcome:
    teacher = TeacherOutcome(client.peer, "teacher")
    collection = Collection(journal, lambda _progress: None)
    collection.watch(arrived)
    context = TransferContext(collection, journal, math.inf, USUAL_PATIENCE)
    await Transfer(context, client, REQUEST, teacher).run()
    return teacher


async def _beat(client: PeerClient, beats: list[float]) -> None:
    """Note how long each heartbeat takes; infinity where no answer came."""
    while True:
        begun = time.perf_counter()
        try:
            await client.heartbeat(BEAT)
            beats.append(time.perf_counter() - begun)
        except PeerUnavailableError:
            beats.append(math.inf)
        await asyncio.sleep(HEARTBEAT_SECONDS)


def say(told: dict[str, Any]) -> None:
    """Write one line."""
    sys.stdout.write(f"{json.dumps(told)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
