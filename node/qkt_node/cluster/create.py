"""Makes the homes of a cluster from one data set and one seed."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qkt_node.cluster.layout import FEDERATION, Cluster, ClusterNode
from qkt_node.config_text import config_text
from qkt_node.home import create_home
from qkt_node.settings import DataSection, DiscoverySection, ModelSection, NodeConfig, NodeSection
from qkt_p2p.datasets import Dataset, load_dataset, pathological, save_npz
from qkt_p2p.errors import ConfigError
from qkt_p2p.identity.authority import create_authority, save_authority, sign_request
from qkt_p2p.identity.files import load_file, save_file
from qkt_p2p.identity.trust import IdentityFiles, install_bundle
from qkt_p2p.seeds import derived_seed

if TYPE_CHECKING:
    from qkt_node.cluster.layout import ClusterFolder
    from qkt_p2p.datasets import LabelledData
    from qkt_p2p.identity.authority import Authority


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """What the owner asked for; `samples_per_class` 0 deals out all."""

    nodes: int
    classes_per_node: int
    source: str
    model: str
    seed: int
    samples_per_class: int


def create_cluster(folder: ClusterFolder, plan: ClusterPlan) -> Cluster:
    """Write a home for every node, and then the cluster's description; raises ConfigError.

    Every node gets a data file of its own with the samples that it alone holds.
    """
    if folder.root.exists() and any(folder.root.iterdir()):
        raise ConfigError(
            f"{folder.root} is not empty", fix=f"qkt-node cluster down --dir {folder.root}, or another --dir"
        )
    data = load_dataset(plan.source, root=Path.cwd())
    parts = pathological(
        data.train,
        nodes=plan.nodes,
        classes_per_node=plan.classes_per_node,
        seed=derived_seed(plan.seed, "partition"),
    )
    folder.root.mkdir(parents=True, exist_ok=True)
    save_npz(folder.evaluation, Dataset(data.test, data.test))
    authority = create_authority(FEDERATION)
    save_authority(authority, folder.authority, passphrase=None)
    addresses = _free_addresses(plan.nodes)
    nodes = []
    for number, (indices, address) in enumerate(zip(parts, addresses, strict=True), start=1):
        part = data.train.select(indices)
        part = part.restrict(part.present, plan.samples_per_class or None, seed=plan.seed)
        node = ClusterNode(f"node-{number}", address, part.present)
        others = tuple(other for other in addresses if other != address)
        config = _node_config(plan, node, others, number, data.train.classes)
        _create_node(folder, node, config, Dataset(part, _own(data.test, part)), authority)
        nodes.append(node)
    cluster = Cluster(plan.source, plan.model, plan.seed, data.train.classes, tuple(nodes))
    folder.save(cluster)
    return cluster


def _own(test: LabelledData, part: LabelledData) -> LabelledData:
    return test.restrict(part.present, seed=0)


def _node_config(
    plan: ClusterPlan,
    node: ClusterNode,
    others: tuple[str, ...],
    number: int,
    label_space: tuple[str, ...],
) -> NodeConfig:
    return NodeConfig(
        node=NodeSection(
            name=node.name,
            listen=node.address,
            seed=derived_seed(plan.seed, "node", str(number)),
            # Many daemons share this machine's cores.
            threads=1,
        ),
        discovery=DiscoverySection(bootstrap=others, mdns=False),
        data=DataSection(source="data.npz", evaluation="../evaluation.npz"),
        model=ModelSection(architecture=plan.model, label_space=label_space),  # type: ignore[arg-type]
    )


def _create_node(
    folder: ClusterFolder, node: ClusterNode, config: NodeConfig, data: Dataset, authority: Authority
) -> None:
    home, _ = create_home(folder.root / node.name, node.name)
    save_file(home.config_file, config_text(config).encode())
    save_npz(home.root / "data.npz", data)
    request = load_file(IdentityFiles(home.identity).request)
    install_bundle(home.identity, sign_request(authority, request).bundle)


def _free_addresses(count: int) -> tuple[str, ...]:
    """Return loopback addresses that nobody listened on a moment ago."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return tuple(f"127.0.0.1:{each.getsockname()[1]}" for each in sockets)
