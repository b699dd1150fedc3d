"""Nodes behind walls: one that nobody can dial, and one that is dialed at a gateway."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from qkt_node.cluster.create import ClusterPlan, create_cluster
from qkt_node.cluster.layout import ClusterFolder
from qkt_node.config import load_config
from qkt_node.config_text import config_text
from qkt_p2p.identity.files import save_file
from tests.cluster.local_cluster import WAIT_SECONDS, LocalCluster, ask, log_events

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qkt_node.home import Home

PLAN = ClusterPlan(nodes=3, classes_per_node=3, source="digits", model="mlp", seed=3, samples_per_class=30)
ASKER, CONTAINED, WALLED = "node-1", "node-2", "node-3"


class Gateway:
    """Passes on what comes to a port of its own, as the gateway of a container does."""

    def __init__(self, target: str) -> None:
        self._target = target
        self.address = ""

    async def run(self, opened: threading.Event, closing: asyncio.Event) -> None:
        server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        opened.set()
        await closing.wait()
        server.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self._target.rpartition(":")
        try:
            inner_reader, inner_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.close()
            return
        await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        return
    finally:
        writer.close()


@contextmanager
def gateway(target: str) -> Iterator[str]:
    """Open a gateway to "host:port", and yield its own address."""
    opened, closing = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()
    made = Gateway(target)
    thread = threading.Thread(target=loop.run_until_complete, args=(made.run(opened, closing),))
    thread.start()
    try:
        assert opened.wait(WAIT_SECONDS)
        yield made.address
    finally:
        loop.call_soon_threadsafe(closing.set)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Three nodes: one that dials nobody by itself, one behind a gateway, one that can only call out."""
    folder = ClusterFolder(tmp_path_factory.mktemp("walls") / "cluster")
    cluster = LocalCluster(folder, create_cluster(folder, PLAN))
    entry = cluster.plan.node(ASKER).address
    with gateway(cluster.plan.node(CONTAINED).address) as address:
        configure(cluster.home(ASKER), bootstrap=())
        configure(cluster.home(CONTAINED), bootstrap=(entry,), announce=(address,))
        configure(cluster.home(WALLED), bootstrap=(entry, address), outbound_only=True)
        try:
            cluster.ensure_up()
            yield cluster
        finally:
            cluster.close()


def configure(home: Home, *, bootstrap: tuple[str, ...], **node: object) -> None:
    """Change what a home's node.toml says."""
    config = load_config(home.config_file)
    changed = config.model_copy(
        update={
            "node": config.node.model_copy(update=node),
            "discovery": config.discovery.model_copy(update={"bootstrap": bootstrap}),
        }
    )
    save_file(home.config_file, config_text(changed).encode())


def peers(home: Home) -> dict[str, Any]:
    """Return what a daemon tells of its peers, by name."""
    answer = ask(home, lambda client: client.peers())
    assert answer is not None
    return {peer.node_name: peer for peer in answer.peers}


def class_of(cluster: LocalCluster, name: str) -> str:
    """Return a class that a node alone has data of."""
    others = {each for node in cluster.plan.nodes if node.name != name for each in node.classes}
    return next(each for each in cluster.plan.node(name).classes if each not in others)


def test_a_node_is_dialed_where_it_says(cluster: LocalCluster) -> None:
    """A hello tells the announced address to whoever was called, who tells it to others."""
    announced = load_config(cluster.home(CONTAINED).config_file).node.announce
    for name in (ASKER, WALLED):
        shown = peers(cluster.home(name))[CONTAINED]
        assert (shown.state, (shown.address,)) == ("live", announced)
    answer = cluster.query(ASKER, "--classes", class_of(cluster, CONTAINED))
    assert answer.exit_code == 0, answer.envelope


def test_a_node_that_cannot_be_dialed_teaches(cluster: LocalCluster) -> None:
    """It listens on nothing and is known by no address; whoever asks is taught as by any other."""
    sockets = psutil.Process(cluster.daemons[WALLED].pid).net_connections(kind="inet")
    assert [each for each in sockets if each.status == psutil.CONN_LISTEN] == []
    shown = peers(cluster.home(ASKER))[WALLED]
    assert (shown.state, shown.address, shown.found_by) == ("live", "", "inbound")
    wanted = class_of(cluster, WALLED)
    answer = cluster.query(ASKER, "--classes", wanted)
    assert answer.exit_code == 0, answer.envelope
    (taught,) = [teacher for teacher in answer.data["teachers"] if teacher["name"] == WALLED]
    assert wanted in taught["classes"]
    assert taught["bytes"] > 0
    # Another test of this cluster may have been taught before.
    *_, served = [
        event for event in log_events(cluster.home(WALLED), "call_served") if event["method"] == "Teach"
    ]
    asker = ask(cluster.home(ASKER), lambda client: client.status())
    assert asker is not None
    assert (served["outcome"], asker.peer_id.startswith(served["peer"])) == ("ok", True)


def test_a_node_that_cannot_be_dialed_asks(cluster: LocalCluster) -> None:
    """Its own queries go the usual way."""
    answer = cluster.query(WALLED, "--classes", cluster.plan.lacking(WALLED)[0])
    assert answer.exit_code == 0, answer.envelope


def test_it_attaches_again_to_a_peer_that_restarts(cluster: LocalCluster) -> None:
    """A broken attachment mends itself, though the peer knows nobody any more."""
    cluster.kill(ASKER)
    cluster.start(ASKER)
    cluster.wait_connected(ASKER)
    answer = cluster.query(ASKER, "--classes", class_of(cluster, WALLED))
    assert answer.exit_code == 0, answer.envelope
