"""What a cluster is, and where its files are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pydantic import TypeAdapter, ValidationError

from qkt_node.home import Home
from qkt_p2p.commands import command
from qkt_p2p.errors import ConfigError, UsageError
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
    """What `cluster up` made: how data and architectures were dealt out, and the nodes in order."""

    source: str
    model: str
    seed: int
    label_space: tuple[ClassName, ...]
    nodes: tuple[ClusterNode, ...]

    def node(self, name: str) -> ClusterNode:
        """Return the node of that name; raises UsageError, naming those there are."""
        for node in self.nodes:
            if node.name == name:
                return node
        names = ", ".join(node.name for node in self.nodes)
        raise UsageError(f"the cluster has no node {name!r}", fix=f"--node one of {names}")

    def lacking(self, name: str) -> list[ClassName]:
        """Return the classes that others have data of and a node has not; raises UsageError for none."""
        own = self.node(name).classes
        held = {each for node in self.nodes for each in node.classes}
        lacking = [each for each in self.label_space if each in held and each not in own]
        if not lacking:
            raise UsageError(f"{name} lacks no class that another node has", fix="--classes a,b --node NAME")
        return lacking

    @property
    def query_seed(self) -> int:
        """Seed of this cluster's queries, where the owner names none."""
        return self.seed + 1


_CLUSTER: Final = TypeAdapter(Cluster)


@dataclass(frozen=True, slots=True)
class ClusterFolder:
    """The folder of a cluster; everything that the cluster writes is below it."""

    root: Path

    @property
    def marker(self) -> Path:
        """The first file of a cluster: only a folder that holds it is ever removed."""
        return self.root / ".qkt-cluster"

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

    def claim(self) -> None:
        """Make the folder and mark it as a cluster's; raises ConfigError where it holds anything."""
        if self.root.exists() and (not self.root.is_dir() or any(self.root.iterdir())):
            raise ConfigError(
                f"{self.root} is not an empty folder",
                fix=f"{command('cluster', 'down', '--dir', self.root)}, or another --dir",
            )
        self.root.mkdir(parents=True, exist_ok=True)
        save_file(self.marker, b"Made by `qkt-node cluster`, removed by `qkt-node cluster down`.\n")

    def save(self, cluster: Cluster) -> None:
        """Write the description, once all homes are made."""
        save_file(self.description, _CLUSTER.dump_json(cluster, indent=2))

    def load(self) -> Cluster:
        """Return the cluster of this folder; raises ConfigError where there is none."""
        if not self.description.exists():
            raise ConfigError(
                f"{self.root} holds no cluster", fix=command("cluster", "up", "--dir", self.root)
            )
        try:
            return _CLUSTER.validate_json(load_file(self.description))
        except ValidationError as error:
            raise ConfigError(
                f"{self.description} is damaged",
                fix=f"remove {self.root}, then {command('cluster', 'up', '--dir', self.root)}",
            ) from error
