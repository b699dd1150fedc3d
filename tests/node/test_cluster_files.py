"""What a cluster is on disk: made from one seed, claimed before it is filled, removed without a trace."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from qkt_node.cluster.create import ClusterPlan, create_cluster
from qkt_node.cluster.layout import Cluster, ClusterFolder, ClusterNode
from qkt_node.cluster.processes import daemons_of, remove_files, start_daemon, stop_daemons
from qkt_node.config import load_config
from qkt_node.home import MAX_SOCKET_PATH_BYTES
from qkt_p2p.errors import ConfigError, UsageError
from qkt_p2p.identity.trust import load_identity
from qkt_p2p.types import ClassName

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PLAN = ClusterPlan(nodes=2, classes_per_node=3, source="digits", model="mlp", seed=5, samples_per_class=10)


def names(text: str) -> tuple[ClassName, ...]:
    return tuple(map(ClassName, text.split()))


CLUSTER = Cluster(
    "digits",
    "mlp",
    5,
    names("a b c d"),
    (ClusterNode("node-1", "h:1", names("a b")), ClusterNode("node-2", "h:2", names("b c"))),
)


def test_what_a_node_lacks() -> None:
    """Classes of others, in the order of the label space; such that nobody holds are not among them."""
    assert CLUSTER.lacking("node-1") == ["c"]
    assert CLUSTER.lacking("node-2") == ["a"]
    with pytest.raises(UsageError, match="no node 'node-3'") as raised:
        CLUSTER.lacking("node-3")
    assert "node-1, node-2" in raised.value.fix
    equals = replace(CLUSTER, nodes=(CLUSTER.nodes[0], ClusterNode("node-2", "h:2", names("a b"))))
    with pytest.raises(UsageError, match="lacks no class"):
        equals.lacking("node-1")


def test_architectures_are_dealt_out_in_turn(tmp_path: Path) -> None:
    """The first comes again after the last; a name that nobody knows is told with those that there are."""
    folder = ClusterFolder(tmp_path / "mixed")
    cluster = create_cluster(folder, replace(PLAN, nodes=3, model="cnn, resnet18"))
    configs = [load_config(folder.home(node.name).config_file, {}) for node in cluster.nodes]
    assert [config.model.architecture for config in configs] == ["cnn", "resnet18", "cnn"]
    assert folder.load() == cluster
    with pytest.raises(UsageError, match="no architecture 'rnn'") as raised:
        create_cluster(ClusterFolder(tmp_path / "none"), replace(PLAN, model="cnn,rnn"))
    assert "cnn,mlp,resnet18" in raised.value.fix
    assert not (tmp_path / "none").exists()


def test_one_seed_one_cluster(tmp_path: Path) -> None:
    """Two clusters of one plan have the same data and seeds; addresses and keys differ."""
    folders = [ClusterFolder(tmp_path / name) for name in ("one", "two")]
    one, two = (create_cluster(folder, PLAN) for folder in folders)
    assert [node.classes for node in one.nodes] == [node.classes for node in two.nodes]
    assert folders[0].load() == one
    homes = [folder.home("node-2") for folder in folders]
    configs = [load_config(home.config_file, {}) for home in homes]
    assert configs[0].node.seed == configs[1].node.seed
    assert configs[0].discovery.bootstrap == (one.nodes[0].address,)
    assert (homes[0].root / "data.npz").read_bytes() == (homes[1].root / "data.npz").read_bytes()
    first, second = (load_identity(home.identity) for home in homes)
    assert first.peer_id != second.peer_id
    assert first.federation == "local-cluster"
    # Beyond what Linux gives to outgoing connections, which could take the port before the node does.
    assert all(20_000 <= int(node.address.partition(":")[2]) < 32_000 for node in one.nodes)


def test_a_path_that_is_too_long_leaves_nothing_behind(tmp_path: Path) -> None:
    """The sockets of all its nodes fit, the one with the longest name too, or nothing is made."""
    room = MAX_SOCKET_PATH_BYTES - len(f"{tmp_path}//node-9/control.sock")
    folder = ClusterFolder(tmp_path / ("x" * room))
    with pytest.raises(ConfigError, match=r"node-10/control\.sock has 108 bytes") as raised:
        create_cluster(folder, replace(PLAN, nodes=10))
    assert "--dir" in raised.value.fix
    assert not folder.root.exists()


def test_a_folder_is_claimed_before_it_is_filled(tmp_path: Path) -> None:
    """A cluster takes an empty folder or makes one, and nobody else's."""
    folder = ClusterFolder(tmp_path / "a" / "b")
    folder.claim()
    with pytest.raises(ConfigError, match="not an empty folder"):
        folder.claim()
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="not an empty folder"):
        ClusterFolder(tmp_path / "file").claim()
    with pytest.raises(ConfigError, match="holds no cluster"):
        folder.load()
    folder.description.write_text("{}")
    with pytest.raises(ConfigError, match="is damaged"):
        folder.load()


def test_only_what_is_marked_is_removed(tmp_path: Path) -> None:
    """Links are removed, not what they lead to; a folder without the mark stays."""
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "letter").touch()
    remove_files(ClusterFolder(tmp_path))
    folder = ClusterFolder(tmp_path / "cluster")
    folder.claim()
    (folder.root / "link").symlink_to(tmp_path / "precious")
    (folder.root / "node-1").mkdir()
    (folder.root / "node-1" / "node.toml").touch()
    remove_files(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]
    assert (tmp_path / "precious" / "letter").exists()


def test_a_cluster_ignores_the_settings_of_the_machines_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its nodes follow their files alone: what the environment says is of another node."""
    for name in ("QKT_HOME", "QKT_NODE_LISTEN", "QKT_DATA_CLASSES", "QKT_DISCOVERY_BOOTSTRAP", "QKT_DEBUG"):
        monkeypatch.setenv(name, "1")
    (tmp_path / "tell.py").write_text("import json, os; print(json.dumps(dict(os.environ)))")
    folder = ClusterFolder(tmp_path / "cluster")
    home = folder.home("node-1").root
    home.mkdir(parents=True)
    added = {"PYTHONPATH": str(tmp_path), "QKT_NODE_THREADS": "1"}
    assert start_daemon(folder, "node-1", program="tell", environ=added).wait() == 0
    told = json.loads((home / "logs" / "daemon.log").read_text())
    assert {name for name in told if name.startswith("QKT_")} == {"QKT_NODE_THREADS", "QKT_DEBUG"}


@contextmanager
def process(cwd: Path, *arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    """Run python with these arguments, in a folder, for the length of a block."""
    with subprocess.Popen(
        [sys.executable, *map(str, arguments)], cwd=cwd, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as running:
        yield running
        running.kill()


def test_only_daemons_of_the_cluster_are_stopped(tmp_path: Path) -> None:
    """Whatever else runs below the folder goes on, and everything does where no cluster marked it."""
    (tmp_path / "qkt_node.py").write_text("input()")
    folder = ClusterFolder(tmp_path / "cluster")
    home = folder.home("node-1").root
    daemon = ("-m", "qkt_node", "start", "--home")
    with ExitStack() as stack:
        strangers = [
            stack.enter_context(process(tmp_path, *arguments))
            for arguments in (
                ("-c", "input()", "start", folder.root),
                ("-c", "input()", "start", "--home", home),
                ("-m", "qkt_node", "status", "--home", home),
                (*daemon, home / "deeper" / "node-1"),
                (*daemon, tmp_path / "cluster-2" / "node-1"),
            )
        ]
        ours = stack.enter_context(process(tmp_path, *daemon, home))
        assert stop_daemons(folder) == 0
        folder.claim()
        assert [found.pid for found in daemons_of(folder)] == [ours.pid]
        assert stop_daemons(folder) == 1
        assert ours.poll() is not None
        assert [stranger.poll() for stranger in strangers] == [None] * len(strangers)
