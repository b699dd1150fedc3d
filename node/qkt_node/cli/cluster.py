"""`cluster up/status/query/down/demo`: a local cluster of real daemons."""

import asyncio
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qkt_node.cli.output import Answer, Output, Table
from qkt_node.cli.progress import StepBars
from qkt_node.cli.query import (
    DeadlineOption,
    MediumOption,
    QuerySeedOption,
    parse_duration,
    percent,
    run_query,
    shown_result,
    split_classes,
)
from qkt_p2p.errors import QktError, UsageError

if TYPE_CHECKING:
    from qkt_node.cluster.create import ClusterPlan
    from qkt_node.cluster.layout import Cluster, ClusterFolder
    from qkt_node.events import QueryOptions

DirOption = Annotated[
    Path,
    typer.Option(
        "--dir", "--home", envvar="QKT_CLUSTER_DIR", help="Folder of the cluster; made and removed."
    ),
]
NodesOption = Annotated[int, typer.Option(min=2, max=64, help="Number of nodes.")]
ClassesPerNodeOption = Annotated[int, typer.Option(min=1, help="Classes that each node has data of.")]
SourceOption = Annotated[str, typer.Option(help="Data to deal out: digits, an .npz, a folder, ...")]
ModelOption = Annotated[str, typer.Option(help="Architecture of the nodes' models: cnn or mlp.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of the partition, the models and the queries.")]
SamplesOption = Annotated[int, typer.Option(min=0, help="Samples per class and node; 0 deals out all.")]
NodeOption = Annotated[str, typer.Option("--node", help="The node that asks.")]
ClassesOption = Annotated[
    str, typer.Option(help="Classes to ask for; by default the first that the node lacks.")
]

DEFAULT_DIR = Path("qkt-cluster")
DEMO_DIR = Path("demo")


def cluster_up(
    output: Output,
    folder: DirOption = DEFAULT_DIR,
    nodes: NodesOption = 5,
    classes_per_node: ClassesPerNodeOption = 3,
    source: SourceOption = "digits",
    model: ModelOption = "cnn",
    seed: SeedOption = 0,
    samples_per_class: SamplesOption = 0,
) -> Answer:
    """Start a cluster, and wait until all nodes see each other."""
    from qkt_node.cluster.create import ClusterPlan

    plan = ClusterPlan(nodes, classes_per_node, source, model, seed, samples_per_class)
    cluster = _up(output, folder, plan)
    next_steps = [
        f"next: qkt-node cluster query --dir {folder}",
        f"last: qkt-node cluster down --dir {folder}",
    ]
    return Answer(
        {"dir": str(folder.absolute()), "nodes": _nodes(cluster)}, [_node_table(cluster), *next_steps]
    )


def cluster_status(output: Output, folder: DirOption = DEFAULT_DIR) -> Answer:
    """Show the nodes of a cluster, and whether each runs."""
    opened = _folder(folder)
    found = asyncio.run(_status(opened, opened.load()))
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


def cluster_query(
    output: Output,
    folder: DirOption = DEFAULT_DIR,
    node: NodeOption = "node-1",
    classes: ClassesOption = "",
    medium: MediumOption = "",
    deadline: DeadlineOption = "",
    seed: QuerySeedOption = 0,
    every: Annotated[
        bool,
        typer.Option("--all", help="Try every node and every class that it lacks; models stay as they are."),
    ] = False,
) -> Answer:
    """Let one node of a cluster ask for classes."""
    from qkt_node.events import QueryOptions

    opened = _folder(folder)
    cluster = opened.load()
    options = QueryOptions(
        classes=split_classes(classes) if classes else (_lacking(cluster, node)[0],),
        medium=medium,
        deadline_seconds=parse_duration(deadline),
        seed=seed or _query_seed(cluster),
    )
    if every:
        return _query_all(output, opened, cluster, options)
    with StepBars(output) as bars:
        data, error = asyncio.run(run_query(opened.home(cluster.node(node).name).root, options, bars))
    return Answer({**data, "asker": node}, shown_result(data), error)


def cluster_down(
    output: Output,
    folder: DirOption = DEFAULT_DIR,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the files: homes, logs, reports.")] = False,
) -> Answer:
    """Stop every process of a cluster and remove its files."""
    from qkt_node.cluster.processes import remove_files, stop_daemons

    opened = _folder(folder)
    stopped = stop_daemons(opened.root)
    existed = opened.description.exists()
    if existed and not keep:
        remove_files(opened)
    what = f"stopped {stopped} daemons" + (f", removed {folder}" if existed and not keep else "")
    return Answer({"stopped": stopped, "removed": existed and not keep}, [what])


def cluster_demo(
    output: Output,
    folder: DirOption = DEMO_DIR,
    nodes: NodesOption = 5,
    classes_per_node: ClassesPerNodeOption = 3,
    source: SourceOption = "digits",
    model: ModelOption = "cnn",
    seed: SeedOption = 0,
    samples_per_class: SamplesOption = 0,
    oracle: Annotated[
        bool, typer.Option("--oracle", help="Show the same training with the teachers' real data, too.")
    ] = False,
) -> Answer:
    """Start a cluster, teach node-1 a class that it never saw, show what changed, stop everything."""
    from qkt_node.cluster.create import ClusterPlan
    from qkt_node.cluster.processes import stop_daemons
    from qkt_node.events import QueryOptions

    opened = _folder(folder)
    _clear_demo(opened)
    plan = ClusterPlan(nodes, classes_per_node, source, model, seed, samples_per_class)
    try:
        cluster = _up(output, folder, plan)
        asker = cluster.nodes[0]
        asked = _lacking(cluster, asker.name)[0]
        output.note(f"{asker.name} has data of {', '.join(asker.classes)}; it asks its peers for {asked}")
        options = QueryOptions((asked,), seed=_query_seed(cluster))
        with StepBars(output) as bars:
            data, error = asyncio.run(run_query(opened.home(asker.name).root, options, bars))
    finally:
        stopped = stop_daemons(opened.root)
    shown = [*shown_result(data), f"stopped {stopped} daemons; their homes are in {folder}"]
    if oracle:
        real = _oracle(opened, asker.name, [asked], _query_seed(cluster))
        data = {**data, "oracle": real}
        shown.insert(1, _oracle_table(data, real))
    return Answer({**data, "asker": asker.name}, shown, error)


def _up(output: Output, path: Path, plan: "ClusterPlan") -> "Cluster":
    from qkt_node.cluster.create import create_cluster
    from qkt_node.cluster.processes import start_cluster, stop_daemons
    from qkt_p2p.types import Progress

    folder = _folder(path)
    cluster = create_cluster(folder, plan)
    output.note(f"starting {plan.nodes} daemons in {path}; each trains a model on its own data")
    with StepBars(output) as bars:
        try:
            asyncio.run(
                start_cluster(
                    folder, cluster, lambda done, total, name: bars.show(Progress("up", done, total, name))
                )
            )
        except BaseException:
            stop_daemons(folder.root)
            raise
    return cluster


def _query_all(
    output: Output, folder: "ClusterFolder", cluster: "Cluster", options: "QueryOptions"
) -> Answer:
    """Try every (node, class) pair; a failure of one is a row of the table and the answer's error."""
    rows, results = [], []
    worst: QktError | None = None
    for node in cluster.nodes:
        for name in _lacking(cluster, node.name):
            one = replace(options, classes=(name,), trial=True)
            with StepBars(output) as bars:
                data, error = asyncio.run(run_query(folder.home(node.name).root, one, bars))
            worst = worst or error
            results.append({**data, "asker": node.name})
            rows.append(_result_row(node.name, data))
    columns = ["asker", "class", "before", "after", "own before", "own after", "outcome", "seconds"]
    return Answer({"queries": results}, [Table(columns, rows)], worst)


def _result_row(asker: str, data: dict[str, Any]) -> list[str]:
    asked, own = data["mean_query_accuracy"], data["mean_local_accuracy"]
    return [
        asker,
        ", ".join(data["classes"]),
        percent(asked["before"]),
        percent(asked["after"]),
        percent(own["before"]),
        percent(own["after"]),
        data["outcome"],
        f"{data['seconds']['total']:.1f}",
    ]


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


def _lacking(cluster: "Cluster", name: str) -> list[str]:
    """Return the classes that others have data of and this node has not; raises UsageError for none."""
    own = cluster.node(name).classes
    held = {each for node in cluster.nodes for each in node.classes}
    lacking: list[str] = [each for each in cluster.label_space if each in held and each not in own]
    if not lacking:
        raise UsageError(f"{name} lacks no class that another node has", fix="--classes a,b --node NAME")
    return lacking


def _oracle(folder: "ClusterFolder", name: str, classes: list[str], seed: int) -> dict[str, float]:
    module = "qkt_node.cluster.oracle"
    command = [sys.executable, "-m", module, str(folder.root), name, ",".join(classes), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise QktError(f"the oracle failed: {done.stderr.strip().splitlines()[-1]}")
    accuracies: dict[str, float] = json.loads(done.stdout)
    return accuracies


def _oracle_table(data: dict[str, Any], oracle: dict[str, float]) -> Table:
    rows = [
        [name, percent(item["after"]), percent(oracle.get(name))] for name, item in data["accuracy"].items()
    ]
    return Table(["class", "query", "oracle"], rows, "Against the same training on the teachers' real data")


def _query_seed(cluster: "Cluster") -> int:
    return cluster.seed + 1


def _clear_demo(folder: "ClusterFolder") -> None:
    """Remove what the last demo left, and stop what it may not have stopped."""
    from qkt_node.cluster.processes import remove_files, stop_daemons

    stop_daemons(folder.root)
    if folder.description.exists():
        remove_files(folder)


def _folder(path: Path) -> "ClusterFolder":
    from qkt_node.cluster.layout import ClusterFolder

    return ClusterFolder(path.absolute())


def _nodes(cluster: "Cluster") -> list[dict[str, Any]]:
    return [
        {"name": node.name, "address": node.address, "classes": list(node.classes)} for node in cluster.nodes
    ]


def _node_table(cluster: "Cluster") -> Table:
    rows = [[node.name, node.address, ", ".join(node.classes)] for node in cluster.nodes]
    return Table(["node", "address", "has data of"], rows)
