"""`cluster query` and `cluster demo`: the nodes of a local cluster ask each other."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qkt_node.cli.awaiting import run
from qkt_node.cli.cluster import (
    DEFAULT_DIR,
    DEFAULT_MODEL,
    ClassesPerNodeOption,
    DirOption,
    EpsilonOption,
    ModelOption,
    NodesOption,
    SamplesOption,
    SeedOption,
    SourceOption,
    bring_up,
    open_folder,
)
from qkt_node.cli.output import Answer, Output
from qkt_node.cli.progress import StepBars
from qkt_node.cli.query import (
    DeadlineOption,
    ForceOption,
    LightOption,
    MediumOption,
    QuerySeedOption,
    parse_duration,
    percent,
    run_query,
    shown_result,
    split_classes,
)
from qkt_node.cli.signals import ending_like_interrupt, undisturbed
from qkt_node.cli.tables import Table
from qkt_p2p.errors import CancelledError, QktError

if TYPE_CHECKING:
    from qkt_node.cluster.layout import Cluster, ClusterFolder
    from qkt_node.events import QueryOptions

NodeOption = Annotated[str, typer.Option("--node", help="The node that asks.")]
ClassesOption = Annotated[
    str, typer.Option(help="Classes to ask for; by default the first that the node lacks.")
]

DEMO_DIR = Path("demo")


def cluster_query(
    output: Output,
    folder: DirOption = DEFAULT_DIR,
    node: NodeOption = "node-1",
    classes: ClassesOption = "",
    medium: MediumOption = "",
    deadline: DeadlineOption = "",
    seed: QuerySeedOption = 0,
    force: ForceOption = False,
    light: LightOption = False,
    every: Annotated[
        bool,
        typer.Option("--all", help="Try every node and every class that it lacks; models stay as they are."),
    ] = False,
) -> Answer:
    """Let one node of a cluster ask for classes."""
    from qkt_node.events import QueryOptions

    opened = open_folder(folder)
    cluster = opened.load()
    options = QueryOptions(
        classes=split_classes(classes) if classes else (cluster.lacking(node)[0],),
        medium=medium,
        deadline_seconds=parse_duration(deadline),
        seed=seed or cluster.query_seed,
        force=force,
        light=light,
    )
    if every:
        return _query_all(output, opened, cluster=cluster, options=options)
    output.home = opened.home(cluster.node(node).name).root
    with StepBars(output) as bars:
        data, error = run(run_query(output.home, options, bars))
    return Answer({**data, "asker": node}, shown_result(data), error)


def cluster_demo(
    output: Output,
    folder: DirOption = DEMO_DIR,
    nodes: NodesOption = 5,
    classes_per_node: ClassesPerNodeOption = 3,
    source: SourceOption = "digits",
    model: ModelOption = DEFAULT_MODEL,
    seed: SeedOption = 0,
    samples_per_class: SamplesOption = 0,
    epsilon: EpsilonOption = 0.0,
    oracle: Annotated[
        bool, typer.Option("--oracle", help="Show the same training with the teachers' real data, too.")
    ] = False,
) -> Answer:
    """Start a cluster, teach node-1 a class that it never saw, show what changed, stop everything."""
    from qkt_node.cluster.comparison import ask_oracle
    from qkt_node.cluster.create import ClusterPlan
    from qkt_node.cluster.processes import remove_files, stop_daemons

    opened = open_folder(folder)
    # What the last demo left to be looked at, and what it could not stop.
    stop_daemons(opened)
    remove_files(opened)
    plan = ClusterPlan(nodes, classes_per_node, source, model, seed, samples_per_class, epsilon=epsilon)
    with ending_like_interrupt():
        try:
            cluster = bring_up(output, opened, plan)
            data, error = _demonstrate(output, opened, cluster)
        finally:
            with undisturbed():
                stopped = stop_daemons(opened)
    shown = [*shown_result(data), f"stopped {stopped} daemons; their homes are in {folder}"]
    if oracle:
        data["oracle"] = ask_oracle(
            opened,
            data["asker"],
            classes=data["classes"],
            medium=data["medium"],
            seed=cluster.query_seed,
        )
        shown.insert(1, _oracle_table(data))
    return Answer(data, shown, error)


def _demonstrate(
    output: Output, folder: "ClusterFolder", cluster: "Cluster"
) -> tuple[dict[str, Any], QktError | None]:
    """Let the first node ask for the first class that it lacks."""
    from qkt_node.events import QueryOptions

    asker = cluster.nodes[0]
    asked = cluster.lacking(asker.name)[0]
    output.note(f"{asker.name} has data of {', '.join(asker.classes)}; it asks its peers for {asked}")
    options = QueryOptions((asked,), seed=cluster.query_seed)
    output.home = folder.home(asker.name).root
    with StepBars(output) as bars:
        data, error = run(run_query(output.home, options, bars))
    return {**data, "asker": asker.name}, error


def _query_all(
    output: Output, folder: "ClusterFolder", *, cluster: "Cluster", options: "QueryOptions"
) -> Answer:
    """Try every (node, class) pair; the first failure is the answer's error, and only an owner ends it.

    A node that does not answer, or goes away meanwhile, fails its own queries alone.
    """
    rows, results = [], []
    first: QktError | None = None
    pairs = [(node.name, name) for node in cluster.nodes for name in cluster.lacking(node.name)]
    for asker, name in pairs:
        one, home = replace(options, classes=(name,), trial=True), folder.home(asker).root
        try:
            with StepBars(output) as bars:
                data, error = run(run_query(home, one, bars))
        except QktError as failure:
            data, error = {"classes": [name], "outcome": "failed", "reason": failure.message}, failure
        if first is None and error is not None:
            first, output.home = error, home
        results.append({**data, "asker": asker})
        rows.append(_result_row(asker, data))
        if isinstance(error, CancelledError):
            break
    columns = ["asker", "class", "before", "after", "own before", "own after", "outcome", "seconds"]
    return Answer({"queries": results}, [Table(columns, rows)], first)


def _result_row(asker: str, data: dict[str, Any]) -> list[str]:
    """Return a row of the table; a query that nobody took on has neither accuracies nor seconds."""
    if "seconds" not in data:
        return [asker, ", ".join(data["classes"]), *["-"] * 4, data["outcome"], "-"]
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


def _oracle_table(data: dict[str, Any]) -> Table:
    rows = [
        [name, percent(item["after"]), percent(data["oracle"].get(name))]
        for name, item in data["accuracy"].items()
    ]
    return Table(["class", "query", "oracle"], rows, "Against the same training on the teachers' real data")
