"""`cluster chaos`: queries on a local cluster while faults befall it, from a seed."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qkt_node.cli.awaiting import run
from qkt_node.cli.cluster import open_folder
from qkt_node.cli.output import Answer, Output
from qkt_node.cli.progress import StepBars
from qkt_node.cli.query import parse_duration
from qkt_node.cli.signals import ending_like_interrupt, undisturbed
from qkt_node.cli.tables import Table
from qkt_p2p.commands import command
from qkt_p2p.errors import QktError, UsageError

if TYPE_CHECKING:
    from qkt_node.cluster.chaos.cluster import ChaosCluster
    from qkt_node.cluster.chaos.soak import Soak
    from qkt_node.cluster.chaos.trial import Question, TrialEnd

CHAOS_DIR = Path("qkt-chaos")
_CLASSES_PER_NODE, _SAMPLES_PER_CLASS = 5, 40
_CLUSTER_SEED = 3
"""The cluster is always the same: a schedule can be repeated by its seed alone."""

_INSTALL = "apt-get install libfaketime (Debian and Ubuntu), dnf install libfaketime (Fedora)"
_LEAST_SECONDS, _MOST_SECONDS = 5.0, 600.0


def cluster_chaos(
    output: Output,
    folder: Annotated[
        Path,
        typer.Option("--dir", "--home", envvar="QKT_CHAOS_DIR", help="Folder of the cluster; made anew."),
    ] = CHAOS_DIR,
    seed: Annotated[int, typer.Option(min=0, max=2**62, help="Seed of the first schedule.")] = 1,
    schedules: Annotated[
        int, typer.Option(min=1, max=100_000, help="How many schedules; their seeds follow each other.")
    ] = 10,
    nodes: Annotated[int, typer.Option(min=3, max=16, help="Number of nodes.")] = 4,
    faults: Annotated[
        str, typer.Option(help="Kinds of faults, separated by commas; all by default. `list` shows them.")
    ] = "",
    deadline: Annotated[str, typer.Option(help="Deadline of each query.")] = "30s",
    out: Annotated[
        Path | None, typer.Option(help="File for the results as JSON.", show_default=False)
    ] = None,
) -> Answer:
    """Break a local cluster in every way while it is asked, and check how its queries end."""
    from qkt_node.cluster.chaos.cluster import ASKER, ChaosCluster
    from qkt_node.cluster.chaos.schedule import KINDS
    from qkt_node.cluster.chaos.trial import Question
    from qkt_node.cluster.create import ClusterPlan
    from qkt_node.cluster.processes import remove_files, stop_daemons

    if faults == "list":
        told, lacking = [[name, kind.does] for name, kind in KINDS.items()], _impossible()
        table = Table(["fault", "what it does"], told)
        return Answer({"faults": dict(told), "left_out": lacking}, [table, *_not_tried(lacking)])
    kinds, left_out = _kinds(faults)
    for line in _not_tried(left_out):
        output.note(line)
    seconds = parse_duration(deadline)
    if not _LEAST_SECONDS <= seconds <= _MOST_SECONDS:
        raise UsageError(
            f"a deadline of {seconds:g} s is not between {_LEAST_SECONDS:g} and {_MOST_SECONDS:g} s",
            fix="--deadline 30s",
        )
    opened = open_folder(folder)
    stop_daemons(opened)
    remove_files(opened)
    plan = ClusterPlan(nodes, _CLASSES_PER_NODE, "digits", "mlp", _CLUSTER_SEED, _SAMPLES_PER_CLASS)
    with ending_like_interrupt():
        try:
            cluster = ChaosCluster(opened, plan)
            question = Question(_asked(cluster, ASKER), cluster.cluster.query_seed, seconds)
            seeds = range(seed, seed + schedules)
            soak = run(_soak(output, cluster, question, seeds=seeds, kinds=kinds))
        finally:
            with undisturbed():
                stop_daemons(opened)
    data = {"seed": seed, "nodes": nodes, "deadline_seconds": seconds, "kinds": kinds, "left_out": left_out}
    data |= soak.as_data()
    if out is not None:
        out.write_text(json.dumps(data, indent=1) + "\n")
    chosen = ["--faults", faults] if faults else []
    repeat = command("cluster", "chaos", "--schedules", 1, "--nodes", nodes, "--deadline", deadline, *chosen)
    return Answer(data, [*_shown(soak), *_not_tried(left_out)], _verdict(soak, repeat))


def _kinds(faults: str) -> tuple[list[str], dict[str, str]]:
    """Return the kinds to draw from, and why others are left out; raises UsageError.

    Those that were asked for, by default all that are possible on this machine.
    """
    from qkt_node.cluster.chaos.schedule import KINDS, require_kinds

    named, lacking = [name.strip() for name in faults.split(",") if name.strip()], _impossible()
    require_kinds(named)
    for name in named:
        if name in lacking:
            raise UsageError(f"{name} is not possible here: it needs {lacking[name]}", fix=_INSTALL)
    if named:
        return named, {}
    return [name for name in KINDS if name not in lacking], lacking


def _impossible() -> dict[str, str]:
    """Return the kinds of faults that this machine lacks something for, and what."""
    from qkt_node.cluster.chaos.signals import FAKETIME

    return {} if FAKETIME.exists() else {"clock-skew": "libfaketime"}


def _not_tried(left_out: dict[str, str]) -> list[str]:
    return [f"NOT TRIED: {name}, which needs {what}: {_INSTALL}" for name, what in left_out.items()]


def _asked(cluster: "ChaosCluster", asker: str) -> tuple[Any, ...]:
    """Return the class that the asker lacks and most others have data of."""
    others = [node for node in cluster.cluster.nodes if node.name != asker]
    lacking = cluster.cluster.lacking(asker)
    return (max(lacking, key=lambda name: sum(name in node.classes for node in others)),)


async def _soak(
    output: Output, cluster: "ChaosCluster", question: "Question", *, seeds: range, kinds: list[str]
) -> "Soak":
    from qkt_node.cluster.chaos.cluster import ASKER
    from qkt_node.cluster.chaos.soak import Soaking
    from qkt_p2p.types import Progress

    output.note(f"starting {len(cluster.teachers) + 1} daemons in {cluster.folder.root}, each behind a proxy")
    soaking = Soaking(cluster, question)
    try:
        with StepBars(output) as bars:
            await cluster.start(lambda done, total, name: bars.show(Progress("up", done, total, name)))
        output.note(f"{ASKER} asks for {', '.join(question.classes)}, once for each schedule, as a trial")
        async for end in soaking.run(seeds, kinds):
            output.event({"event": "schedule", **end.as_data()})
            output.note(_line(end, len(soaking.soak.ends), len(seeds)))
    finally:
        await cluster.stop()
    return soaking.soak


def _line(end: "TrialEnd", number: int, of: int) -> str:
    """Return what people are told of one schedule."""
    told = "; ".join(map(str, end.schedule.faults))
    lines = [f"[{number}/{of}] seed {end.schedule.seed}: {end.state} after {end.seconds:.1f} s   {told}"]
    if end.reason:
        lines.append(f"    {end.reason}")
    lines += [f"    BROKEN: {problem}" for problem in end.problems]
    return "\n".join(lines)


def _shown(soak: "Soak") -> list[str | Table]:
    states = sorted({end.state for end in soak.ends})
    rows = [
        [kind, str(sum(ends.values())), *(str(ends[state] or "-") for state in states)]
        for kind, ends in soak.by_kind().items()
    ]
    total = [str(sum(end.state == state for end in soak.ends)) for state in states]
    rows.append(["all schedules", str(len(soak.ends)), *total])
    held = [
        [
            leak.node,
            str(leak.schedules),
            f"{leak.before.mebibytes:.0f}->{leak.after.mebibytes:.0f}",
            f"{leak.before.used:.1f}->{leak.after.used:.1f}",
            f"{leak.before.blocks / 1000:.0f}->{leak.after.blocks / 1000:.0f}",
            f"{leak.before.files}->{leak.after.files}",
            f"{leak.before.sockets}->{leak.after.sockets}",
            f"{leak.before.tasks}->{leak.after.tasks}",
            "; ".join(leak.grown) or "no",
        ]
        for leak in soak.leaks
    ]
    columns = ["daemon", "schedules", "MiB", "used", "blocks", "files", "sockets", "tasks", "leak"]
    latest = max(end.late for end in soak.ends)
    return [
        Table(["fault", "schedules", *states], rows, "How queries ended, by the faults that befell them"),
        Table(
            columns,
            held,
            "What daemons hold, before and after: MiB, of them used; 1,000 blocks of objects",
        ),
        f"latest end after a deadline: {latest:.1f} s; rules broken in {len(soak.broken)} schedules",
    ]


def _verdict(soak: "Soak", repeat: str) -> QktError | None:
    if soak.broken:
        first = soak.broken[0]
        return QktError(
            f"{len(soak.broken)} of {len(soak.ends)} schedules broke a rule; seed {first.schedule.seed}: "
            f"{'; '.join(first.problems)}",
            fix=f"{repeat} --seed {first.schedule.seed}",
        )
    if soak.grown:
        leak = soak.grown[0]
        return QktError(f"{leak.node} leaks: {'; '.join(leak.grown)}", fix="see --out, under leaks")
    return None
