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
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final

import grpc

from qkt_bench.transport.load import ASKER, REQUEST, TEACHER, load_from
from qkt_bench.transport.member import BEAT, NODE
from qkt_bench.transport.ways import WAYS
from qkt_node.allocator import reuse_buffers
from qkt_node.log import configure_logging
from qkt_node.teacher_lines import TeacherLine
from qkt_p2p.asking.collection import Collection
from qkt_p2p.asking.retry import USUAL_PATIENCE
from qkt_p2p.asking.transfers import Transfer, TransferContext
from qkt_p2p.discovery import Contacts, Membership
from qkt_p2p.errors import PeerUnavailableError, QktError
from qkt_p2p.limits import SETTLE_SECONDS
from qkt_p2p.outcome import TeacherOutcome
from qkt_p2p.transport.dialer import TlsDialer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from qkt_bench.transport.ends import Arrived
    from qkt_bench.transport.load import Load
    from qkt_p2p.identity.standing import Standing
    from qkt_p2p.transport.client import PeerClient
    from qkt_p2p.types import Heartbeat, PeerId

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
    """Return what gets the response as a daemon does, through breaks: nobody else could teach it."""
    standing, peer = load.standing(ASKER), load.standing(TEACHER).identity.peer_id
    beats: list[float] = []
    contacts = Contacts(
        standing.identity.peer_id,
        _TimingDialer(standing, beats),
        membership=Membership(),
        describe=lambda: NODE,
        beat=lambda: BEAT,
    )
    contacts.start([f"{load.host}:{port}"])
    stack.push_async_callback(contacts.stop)
    journal = load.journal(ASKER)
    stack.callback(journal.close)
    await contacts.meet(LONGEST_SECONDS, [peer])

    async def fetch(arrived: Arrived) -> dict[str, Any]:
        beats.clear()
        teacher = TeacherOutcome(peer, TEACHER)
        collection = Collection(journal, lambda _progress: None)
        collection.watch(arrived)
        context = TransferContext(collection, journal, math.inf, USUAL_PATIENCE)
        try:
            async with contacts.gathered(SETTLE_SECONDS) as found:
                line = TeacherLine(peer, found.again, contacts.hear)
                await Transfer(context, line, REQUEST, teacher, needed=lambda: True).run()
        finally:
            journal.drop_responses(REQUEST.query_id)
        return {
            "streams": teacher.attempts,
            "bytes_received": line.bytes_received,
            "beats": len(beats),
            "beats_lost": beats.count(math.inf),
            "slowest_beat_seconds": max((each for each in beats if each < math.inf), default=None),
        }

    return fetch


class _TimingDialer(TlsDialer):
    """Notes how long each heartbeat takes; infinity where no answer came."""

    def __init__(self, standing: Standing, beats: list[float]) -> None:
        super().__init__(standing)
        self._beats = beats

    def connect(self, peer: PeerId, address: str) -> PeerClient:
        client = super().connect(peer, address)
        heartbeat = client.heartbeat

        async def timed(beat: Heartbeat) -> Heartbeat:
            begun = time.perf_counter()
            try:
                answer = await heartbeat(beat)
            except PeerUnavailableError:
                self._beats.append(math.inf)
                raise
            self._beats.append(time.perf_counter() - begun)
            return answer

        client.heartbeat = timed  # type: ignore[method-assign]
        return client


def say(told: dict[str, Any]) -> None:
    """Write one line."""
    sys.stdout.write(f"{json.dumps(told)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
