"""Many peers at once, and peers that go away, over the in-memory transport and over real mutual TLS."""

from __future__ import annotations

import asyncio
import random
import sys
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from qkt_node import serving as serving_module
from qkt_node.home import Home
from qkt_node.settings import NodeConfig
from qkt_node.turns import Caps, Turns
from qkt_node.worker import child
from qkt_node.worker.client import Worker
from qkt_p2p.limits import CHUNK_BYTES, MAX_CONCURRENT_TEACHING
from qkt_p2p.types import Chunk, TeachEnd, TeachWait
from tests.node.hosting import CHUNKS, OFFER, TEACHING, Host, StandInWorker, offer_of
from tests.patience import patience

if TYPE_CHECKING:
    from qkt_node.serving import Serving
    from qkt_p2p.identity.trust import Identity
    from qkt_p2p.transport.client import PeerClient
    from tests.node.conftest import Join

ASKERS = 32
LARGE = tuple(Chunk(at, random.Random(at).randbytes(CHUNK_BYTES)) for at in range(2))
LARGE_OFFER = offer_of(LARGE)
WORKER = (sys.executable, str(Path(__file__).parent / "worker" / "stand_in.py"))
OBEYS, HANGS = 2, 3


@pytest.fixture(scope="session")
def askers(join: Join) -> list[Identity]:
    return [join(f"asker-{number}") for number in range(ASKERS)]


class Audience:
    """Clients that ask at once; `all_wait` is set when each that must wait has heard so."""

    def __init__(self, waiting: int) -> None:
        self._left = waiting
        self.all_wait = asyncio.Event()

    async def ask(self, client: PeerClient, seed: int) -> tuple[list[int], list[object]]:
        """Return the places that a client was told, and what came then."""
        places: list[int] = []
        rest: list[object] = []
        async with aclosing(client.teach(replace(TEACHING, seed=seed))) as parts:
            async for part in parts:
                if not isinstance(part, TeachWait):
                    rest.append(part)
                    continue
                if not places:
                    self._left -= 1
                    if not self._left:
                        self.all_wait.set()
                places.append(part.ahead)
        return places, rest


async def test_32_askers_at_once_all_finish(
    host: Host, worker: StandInWorker, askers: list[Identity]
) -> None:
    """Each gets all of its data, none is sent away, and no place in the queue ever grows."""
    host.journal.save_bank("bank", LARGE_OFFER, LARGE)
    serving, connect = await host.serve(worker)
    await all_finish(serving, worker, [connect(asker) for asker in askers])


async def test_32_askers_of_a_node_that_nobody_can_dial_all_finish(
    host_over_tls: Host, worker: StandInWorker, askers: list[Identity]
) -> None:
    """It dialed each of them, and they ask over that line; for the rest they are served as any other."""
    host_over_tls.journal.save_bank("bank", LARGE_OFFER, LARGE)
    serving, clients = await host_over_tls.serve_outbound(worker, askers)
    await all_finish(serving, worker, clients)


async def all_finish(serving: Serving, worker: StandInWorker, clients: list[PeerClient]) -> None:
    """Have all ask at once, before any is answered, and check what each was told and got."""
    worker.go.clear()
    waiting = len(clients) - MAX_CONCURRENT_TEACHING
    audience = Audience(waiting)
    asking = [asyncio.create_task(audience.ask(client, at)) for at, client in enumerate(clients)]
    async with patience("all that must wait are told so"):
        await audience.all_wait.wait()
    assert (serving.teaching.running, serving.teaching.waiting) == (MAX_CONCURRENT_TEACHING, waiting)
    worker.go.set()
    found = await asyncio.gather(*asking)
    assert all(rest == [LARGE_OFFER, *LARGE, TeachEnd(len(LARGE))] for _, rest in found)
    queued = [places for places, _ in found if places]
    assert sorted(places[0] for places in queued) == list(range(1, waiting + 1))
    assert all(places == sorted(places, reverse=True) and places[-1] == 0 for places in queued)
    assert (serving.teaching.running, serving.teaching.waiting) == (0, 0)


@pytest.mark.parametrize("seed", [OBEYS, HANGS], ids=["obeys", "hangs"])
async def test_a_request_that_is_given_up_ends_the_workers_work(
    host: Host, members: dict[str, Identity], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """The asker closes its stream: the worker stops, or is killed, and the next has its turn."""
    monkeypatch.setattr(serving_module, "TEACH_WAIT_SECONDS", 0.01)
    if seed == OBEYS:
        # However busy the machine is, whoever obeys is not killed.
        monkeypatch.setattr(child, "CANCEL_SECONDS", 60.0)
    worker = Worker(Home(tmp_path), NodeConfig(), program=WORKER)
    host.stack.push_async_callback(worker.stop)
    serving, connect = await host.serve(worker)
    serving.teaching = Turns(Caps(running=1, running_of_peer=1, waiting=1, waiting_of_peer=1))
    await worker.warm()
    with capture_logs() as logs:
        async with aclosing(connect(members["lab"]).teach(replace(TEACHING, seed=seed))) as parts:
            assert await anext(parts) == TeachWait(0)
            assert worker.state == "busy"
            next_one = connect(members["ward"]).teach(TEACHING)
            assert await anext(next_one) == TeachWait(1)
        assert [part async for part in next_one if not isinstance(part, TeachWait)] == [
            OFFER,
            *CHUNKS,
            TeachEnd(2),
        ]
    killed = [log for log in logs if log["event"] == "worker_killed"]
    assert len(killed) == (1 if seed == HANGS else 0)
    assert worker.state == "idle"
