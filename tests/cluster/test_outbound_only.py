"""A node that nobody can dial is asked all the same, over the connections that it opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil
import pytest
from local_cluster import LocalCluster, ask, log_events

from qkt_node.cluster.create import ClusterPlan, create_cluster
from qkt_node.cluster.layout import ClusterFolder
from qkt_node.config import load_config
from qkt_node.config_text import config_text
from qkt_p2p.identity.files import save_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qkt_node.home import Home
    from qkt_p2p.pb import control_pb2 as pb

PLAN = ClusterPlan(nodes=3, classes_per_node=3, source="digits", model="mlp", seed=3, samples_per_class=30)
ASKER, TEACHER = "node-1", "node-3"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Three nodes, of which the last can only call out."""
    folder = ClusterFolder(tmp_path_factory.mktemp("outbound") / "cluster")
    cluster = LocalCluster(folder, create_cluster(folder, PLAN))
    hide(cluster.home(TEACHER))
    try:
        cluster.ensure_up()
        yield cluster
    finally:
        cluster.close()


def hide(home: Home) -> None:
    """Make a node outbound-only."""
    config = load_config(home.config_file)
    node = config.node.model_copy(update={"outbound_only": True})
    save_file(home.config_file, config_text(config.model_copy(update={"node": node})).encode())


def peer_named(home: Home, name: str) -> pb.PeerStatus:
    """Return what a daemon tells of a peer."""
    answer = ask(home, lambda client: client.peers())
    assert answer is not None
    return next(peer for peer in answer.peers if peer.node_name == name)


def test_a_node_that_cannot_be_dialed_teaches(cluster: LocalCluster) -> None:
    """It listens on nothing and is known by no address; whoever asks is taught as by any other."""
    listening = psutil.Process(cluster.daemons[TEACHER].pid).net_connections(kind="inet")
    assert [found for found in listening if found.status == psutil.CONN_LISTEN] == []
    shown = peer_named(cluster.home(ASKER), TEACHER)
    assert (shown.state, shown.address, shown.found_by) == ("live", "", "inbound")
    others = {each for node in cluster.plan.nodes if node.name != TEACHER for each in node.classes}
    wanted = next(each for each in cluster.plan.node(TEACHER).classes if each not in others)
    answer = cluster.query(ASKER, "--classes", wanted)
    assert answer.exit_code == 0, answer.envelope
    taught = {teacher["name"]: teacher for teacher in answer.data["teachers"]}
    assert wanted in taught[TEACHER]["classes"]
    assert taught[TEACHER]["bytes"] > 0
    asker = ask(cluster.home(ASKER), lambda client: client.status())
    assert asker is not None
    (served,) = [
        event for event in log_events(cluster.home(TEACHER), "call_served") if event["method"] == "Teach"
    ]
    assert (served["outcome"], asker.peer_id.startswith(served["peer"])) == ("ok", True)


def test_a_node_that_cannot_be_dialed_asks(cluster: LocalCluster) -> None:
    """Its own queries go the usual way."""
    wanted = cluster.plan.lacking(TEACHER)[0]
    answer = cluster.query(TEACHER, "--classes", wanted)
    assert answer.exit_code == 0, answer.envelope


def test_it_attaches_again_to_a_peer_that_restarts(cluster: LocalCluster) -> None:
    """A broken attachment mends itself, without anybody dialing the node."""
    cluster.kill(ASKER)
    cluster.start(ASKER)
    cluster.wait_connected(ASKER)
    others = {each for node in cluster.plan.nodes if node.name != TEACHER for each in node.classes}
    wanted = next(each for each in cluster.plan.node(TEACHER).classes if each not in others)
    answer = cluster.query(ASKER, "--classes", wanted)
    assert answer.exit_code == 0, answer.envelope
