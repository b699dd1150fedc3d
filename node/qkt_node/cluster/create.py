"""Makes the homes of a cluster from one data set and one seed."""

from __future__ import annotations

import random
import socket
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Final, get_args

from qkt_node.cluster.layout import FEDERATION, Cluster, ClusterNode
from qkt_node.config_text import config_text
from qkt_node.home import home_at
from qkt_node.new_home import create_home
from qkt_node.settings import (
    Architecture,
    DataSection,
    DiscoverySection,
    ModelSection,
    NodeConfig,
    NodeSection,
    PrivacySection,
)
from qkt_p2p.datasets import Dataset, load_dataset, pathological, save_npz
from qkt_p2p.errors import ConfigError, UsageError
from qkt_p2p.identity.authority import create_authority, save_authority, sign_request
from qkt_p2p.identity.files import load_file, save_file
from qkt_p2p.identity.trust import IdentityFiles, install_bundle
from qkt_p2p.seeds import derived_seed
from qkt_p2p.types import USUAL_AUGMENTATION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qkt_node.cluster.layout import ClusterFolder
    from qkt_p2p.datasets import LabelledData
    from qkt_p2p.identity.authority import Authority
    from qkt_p2p.types import Augmentation


_PORTS: Final = range(20_000, 32_000)
"""Below the ports that Linux gives to outgoing connections, which nodes that look for each other use up."""


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """What the owner asked for; `samples_per_class` 0 deals out all.

    `model` names architectures, separated by commas, which are dealt to the nodes in turn. `epsilon` is the
    privacy budget of each node's classes, 0 for none.
    """

    nodes: int
    classes_per_node: int
    source: str
    model: str
    seed: int
    samples_per_class: int
    augment: Augmentation = USUAL_AUGMENTATION
    epsilon: float = 0.0


def create_cluster(folder: ClusterFolder, plan: ClusterPlan) -> Cluster:
    """Write a home for every node, and then the cluster's description; raises ConfigError.

    Every node gets a data file of its own with the samples that it alone holds.
    """
    data = load_dataset(plan.source, root=Path.cwd())
    return create_homes(folder, plan, parts=_deal(data.train, plan), test=data.test)


def create_homes(
    folder: ClusterFolder,
    plan: ClusterPlan,
    *,
    parts: Sequence[LabelledData],
    test: LabelledData,
    holdout: float | None = None,
) -> Cluster:
    """Write the cluster of nodes that hold `parts` and measure on `test`; raises ConfigError.

    Each holds out the share `holdout` of its data; None leaves that to the configuration's default.
    """
    architectures = split_architectures(plan.model)
    addresses = free_addresses(plan.nodes)
    usual = PrivacySection().release_epsilon
    privacy = PrivacySection(epsilon=plan.epsilon, release_epsilon=min(plan.epsilon, usual) or usual)
    nodes = tuple(
        ClusterNode(f"node-{number}", address, part.present)
        for number, (part, address) in enumerate(zip(parts, addresses, strict=True), start=1)
    )
    cluster = Cluster(plan.source, plan.model, plan.seed, test.classes, nodes)
    # Before anything is written: names differ in their numbers alone.
    home_at(folder.root / nodes[-1].name, option="--dir")
    folder.claim()
    save_npz(folder.evaluation, Dataset(test, test))
    authority = create_authority(FEDERATION)
    save_authority(authority, folder.authority, passphrase=None)
    for node, part, architecture in zip(nodes, parts, cycle(architectures)):
        own = Dataset(part, test.restrict(part.present, seed=0))
        model = ModelSection(architecture=architecture, augment=plan.augment, label_space=cluster.label_space)
        config = _node_config(cluster, node, model, privacy=privacy, holdout=holdout)
        _create_node(folder, config, data=own, authority=authority)
    folder.save(cluster)
    return cluster


def split_architectures(names: str) -> tuple[Architecture, ...]:
    """Return the architectures in `names`, separated by commas; raises UsageError where one is unknown."""
    known: dict[str, Architecture] = {name: name for name in get_args(Architecture)}
    found = [name.strip() for name in names.split(",")]
    if unknown := [name for name in found if name not in known]:
        raise UsageError(
            f"there is no architecture {unknown[0][:40]!r}", fix=f"--model with some of {','.join(known)}"
        )
    return tuple(known[name] for name in found)


def _deal(data: LabelledData, plan: ClusterPlan) -> list[LabelledData]:
    """Return each node's share of the samples."""
    parts = pathological(
        data,
        nodes=plan.nodes,
        classes_per_node=plan.classes_per_node,
        seed=derived_seed(plan.seed, "partition"),
    )
    selected = [data.select(indices) for indices in parts]
    return [part.restrict(part.present, plan.samples_per_class or None, seed=plan.seed) for part in selected]


def _node_config(
    cluster: Cluster,
    node: ClusterNode,
    model: ModelSection,
    *,
    privacy: PrivacySection,
    holdout: float | None,
) -> NodeConfig:
    others = tuple(other.address for other in cluster.nodes if other is not node)
    return NodeConfig(
        node=NodeSection(
            name=node.name,
            listen=node.address,
            seed=derived_seed(cluster.seed, "node", node.name.rpartition("-")[2]),
            # Many daemons share this machine's cores.
            threads=1,
        ),
        discovery=DiscoverySection(bootstrap=others, mdns=False),
        privacy=privacy,
        data=DataSection(
            source="data.npz",
            evaluation="../evaluation.npz",
            holdout=DataSection().holdout if holdout is None else holdout,
        ),
        model=model,
    )


def _create_node(folder: ClusterFolder, config: NodeConfig, *, data: Dataset, authority: Authority) -> None:
    home, _ = create_home(folder.root / config.node.name, config.node.name)
    save_file(home.config_file, config_text(config).encode())
    save_npz(home.root / "data.npz", data)
    request = load_file(IdentityFiles(home.identity).request)
    install_bundle(home.identity, sign_request(authority, request).bundle)


def free_addresses(count: int) -> tuple[str, ...]:
    """Return loopback addresses that nobody listened on a moment ago."""
    found = []
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)) != 0:
                found.append(f"127.0.0.1:{port}")
        if len(found) == count:
            return tuple(found)
    raise ConfigError(f"this machine has no {count} free ports from {_PORTS.start} to {_PORTS.stop}")
