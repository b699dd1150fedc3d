"""What a cluster is, and where its files are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pydantic import TypeAdapter, ValidationError

from qkt_node.home import Home
from qkt_p2p.errors import ConfigError
from qkt_p2p.identity.files import load_file, save_file
from qkt_p2p.types import ClassName  # noqa: TC001 - pydantic reads it

if TYPE_CHECKING:
    from pathlib import Path

FEDERATION: Final = "local-cluster"


@dataclass(frozen=True, slots=True)
class ClusterNode:
    """One node: name, address, and the classes that its private data hold."""

    name: str
    address: str
    classes: tuple[ClassName, ...]


@dataclass(frozen=True, slots=True)
class Cluster:
    """What `cluster up` made: how the data were dealt out, and the nodes in order."""

    source: str
    model: str
    seed: int
    label_space: tuple[ClassName, ...]
    nodes: tuple[ClusterNode, ...]

    def node(self, name: str) -> ClusterNode:
        """Return the node of that name; raises ConfigError, naming those there are."""
        for node in self.nodes:
            if node.name == name:
                return node
        names = ", ".join(node.name for node in self.nodes)
        raise ConfigError(f"the cluster has no node {name!r}", fix=f"--node one of {names}")


_CLUSTER: Final = TypeAdapter(Cluster)


@dataclass(frozen=True, slots=True)
class ClusterFolder:
    """The folder of a cluster; everything that the cluster writes is below it."""

    root: Path

    @property
    def description(self) -> Path:
        """cluster.json: the Cluster."""
        return self.root / "cluster.json"

    @property
    def evaluation(self) -> Path:
        """Test data that no node trains on."""
        return self.root / "evaluation.npz"

    @property
    def authority(self) -> Path:
        """The federation's authority."""
        return self.root / "authority"

    def home(self, name: str) -> Home:
        """Return the home of a node."""
        return Home((self.root / name).absolute())

    def save(self, cluster: Cluster) -> None:
        """Write the description; the folder counts as a cluster from then on."""
        save_file(self.description, _CLUSTER.dump_json(cluster, indent=2))

    def load(self) -> Cluster:
        """Return the cluster of this folder; raises ConfigError where there is none."""
        if not self.description.exists():
            raise ConfigError(f"{self.root} holds no cluster", fix="qkt-node cluster up")
        try:
            return _CLUSTER.validate_json(load_file(self.description))
        except ValidationError as error:
            raise ConfigError(
                f"{self.description} is damaged", fix=f"remove {self.root}, then qkt-node cluster up"
            ) from error
