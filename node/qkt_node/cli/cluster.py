"""`cluster up/status/down`: a local cluster of real daemons."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qkt_node.cli.awaiting import run
from qkt_node.cli.output import Answer, Output
from qkt_node.cli.progress import StepBars
from qkt_node.cli.signals import ending_like_interrupt, undisturbed
from qkt_node.cli.tables import Table
from qkt_p2p.commands import command
from qkt_p2p.limits import MAX_EPSILON

if TYPE_CHECKING:
    from qkt_node.cluster.create import ClusterPlan
    from qkt_node.cluster.layout import Cluster, ClusterFolder


DirOption = Annotated[
    Path,
    typer.Option(
        "--dir", "--home", envvar="QKT_CLUSTER_DIR", help="Folder of the cluster; made and removed."
    ),
]
NodesOption = Annotated[int, typer.Option(min=2, max=64, help="Number of nodes.")]
ClassesPerNodeOption = Annotated[int, typer.Option(min=1, help="Classes that each node has data of.")]
SourceOption = Annotated[str, typer.Option(help="Data to deal out: digits, an .npz, a folder, ...")]
ModelOption = Annotated[
    str,
    typer.Option(help="Architectures of the nodes' models, dealt out in turn: cnn, or cnn,mlp,resnet18."),
]
SeedOption = Annotated[
    int, typer.Option(min=0, max=2**62, help="Seed of the partition, the models and the queries.")
]
SamplesOption = Annotated[int, typer.Option(min=0, help="Samples per class and node; 0 deals out all.")]
EpsilonOption = Annotated[
    float,
    typer.Option(
        min=0, max=MAX_EPSILON, help="Privacy budget of each node's classes: teach with noise; 0: none."
    ),
]

DEFAULT_DIR = Path("qkt-cluster")
DEFAULT_MODEL = "cnn"


def cluster_up(
    output: Output,
    folder: DirOption = DEFAULT_DIR,
    nodes: NodesOption = 5,
    classes_per_node: ClassesPerNodeOption = 3,
    source: SourceOption = "digits",
    model: ModelOption = DEFAULT_MODEL,
    seed: SeedOption = 0,
    samples_per_class: SamplesOption = 0,
    epsilon: EpsilonOption = 0.0,
) -> Answer:
    """Start a cluster, and wait until all nodes see each other."""
    from qkt_node.cluster.create import ClusterPlan

    plan = ClusterPlan(nodes, classes_per_node, source, model, seed, samples_per_class, epsilon=epsilon)
    opened = open_folder(folder)
    cluster = bring_up(output, opened, plan)
    made = [
        {"name": node.name, "address": node.address, "classes": list(node.classes)} for node in cluster.nodes
    ]
    rows = [[node.name, node.address, ", ".join(node.classes)] for node in cluster.nodes]
    return Answer(
        {"dir": str(opened.root), "nodes": made},
        [
            Table(["node", "address", "has data of"], rows),
            f"next: {command('cluster', 'query', '--dir', folder)}",
            f"last: {command('cluster', 'down', '--dir', folder)}",
        ],
    )


def cluster_status(output: Output, folder: DirOption = DEFAULT_DIR) -> Answer:
    """Show the nodes of a cluster, and whether each runs."""
    opened = open_folder(folder)
    found = run(_status(opened, opened.load()))
    rows = [
        [
            node["name"],
            node["state"],
            node["address"],
            str(node["live_peers"]),
            str(node["model_version"]),
            ", ".join(node["classes"]),
            ", ".join(node["known_classes"]),
        ]
        for node in found
    ]
    columns = ["node", "state", "address", "peers", "model", "has data of", "knows"]
    return Answer({"dir": str(opened.root), "nodes": found}, [Table(columns, rows)])


def cluster_down(
    output: Output,
    folder: DirOption = DEFAULT_DIR,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the files: homes, logs, reports.")] = False,
) -> Answer:
    """Stop every process of a cluster and remove its files."""
    from qkt_node.cluster.processes import remove_files, stop_daemons

    opened = open_folder(folder)
    stopped = stop_daemons(opened)
    removing = opened.marker.exists() and not keep
    if removing:
        remove_files(opened)
    what = f"stopped {stopped} daemons" + (f", removed {folder}" if removing else "")
    return Answer({"stopped": stopped, "removed": removing}, [what])


def open_folder(path: Path) -> "ClusterFolder":
    """Return the folder at `path`, under the one name by which its daemons are found again."""
    from qkt_node.cluster.layout import ClusterFolder

    return ClusterFolder(path.resolve())


def bring_up(output: Output, folder: "ClusterFolder", plan: "ClusterPlan") -> "Cluster":
    """Make a cluster and start it; where that fails or is interrupted, no process is left."""
    from qkt_node.cluster.create import create_cluster
    from qkt_node.cluster.processes import start_cluster, stop_daemons
    from qkt_p2p.types import Progress

    cluster = create_cluster(folder, plan)
    output.note(f"starting {plan.nodes} daemons in {folder.root}; each trains a model on its own data")
    with StepBars(output) as bars, ending_like_interrupt():
        try:
            run(
                start_cluster(
                    folder, cluster, lambda done, total, name: bars.show(Progress("up", done, total, name))
                )
            )
        except BaseException:
            with undisturbed():
                stop_daemons(folder)
            raise
    return cluster


async def _status(folder: "ClusterFolder", cluster: "Cluster") -> list[dict[str, Any]]:
    from qkt_node.control.client import connect
    from qkt_p2p.errors import NotRunningError

    found = []
    for node in cluster.nodes:
        entry: dict[str, Any] = {"name": node.name, "address": node.address, "classes": list(node.classes)}
        try:
            async with connect(folder.home(node.name)) as client:
                status = await client.status()
            entry |= {
                "state": "running",
                "pid": status.pid,
                "live_peers": status.live_peers,
                "model_version": status.model_version,
                "known_classes": list(status.known_classes),
            }
        except NotRunningError:
            entry |= {"state": "stopped", "pid": 0, "live_peers": 0, "model_version": 0, "known_classes": []}
        found.append(entry)
    return found
