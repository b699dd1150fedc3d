"""One cluster for all tests of real daemons: three nodes on loopback, small and quick."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from qkt_node.cluster.create import ClusterPlan
from qkt_node.cluster.layout import ClusterFolder
from qkt_node.config_text import config_text
from qkt_node.home import Home
from qkt_node.new_home import create_home
from qkt_node.settings import DataSection, DiscoverySection, ModelSection, NodeConfig, NodeSection
from qkt_p2p.identity.authority import create_authority, sign_request
from qkt_p2p.identity.files import load_file, save_file
from qkt_p2p.identity.trust import IdentityFiles, install_bundle
from tests.cluster.local_cluster import LocalCluster, running, running_cluster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PLAN = ClusterPlan(nodes=3, classes_per_node=5, source="digits", model="mlp", seed=3, samples_per_class=40)


@pytest.fixture(scope="session")
def trained_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A node of a federation of its own, without peers, whose model is trained; no daemon runs on it."""
    folder = tmp_path_factory.mktemp("alone")
    home, _ = create_home(folder / "home", "hermit")
    config = NodeConfig(
        node=NodeSection(name="hermit", listen="127.0.0.1:0", threads=1),
        discovery=DiscoverySection(mdns=False),
        data=DataSection(source="digits", classes=("0", "1", "2"), samples_per_class=30),
        model=ModelSection(architecture="mlp"),
    )
    save_file(home.config_file, config_text(config).encode())
    signed = sign_request(create_authority("elsewhere"), load_file(IdentityFiles(home.identity).request))
    install_bundle(home.identity, signed.bundle)
    with running(home):
        return home


@pytest.fixture
def home(trained_home: Home, tmp_path: Path) -> Home:
    """A copy of the trained home for one test."""
    return Home(shutil.copytree(trained_home.root, tmp_path / "home", symlinks=True))


@pytest.fixture(scope="session")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """The cluster itself; no test of it changes a model."""
    # gRPC reads such characters in a socket's path as parts of a URI.
    folder = ClusterFolder((tmp_path_factory.mktemp("shared") / "a b%41#é").resolve())
    with running_cluster(folder, PLAN) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared_cluster: LocalCluster) -> LocalCluster:
    """The shared cluster with all its nodes up, whatever an earlier test did to them."""
    shared_cluster.ensure_up()
    return shared_cluster
