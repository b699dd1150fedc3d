"""`bench tables` and `bench transport`, from a checkout that holds the bench."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qkt_node.cli.output import Answer, Output
from qkt_node.cli.progress import StepBars
from qkt_node.cli.tables import Table

if TYPE_CHECKING:
    from qkt_bench.plan import BenchPlan


class Queries(StrEnum):
    """How many classes one query asks for."""

    SINGLE = "single"
    MULTI = "multi"


class Augment(StrEnum):
    """How images are augmented while models are trained."""

    NONE = "none"
    SHIFTS = "shifts"


def bench_tables(
    output: Output,
    out: Annotated[
        Path, typer.Option("--out", "--home", help="Folder of the results; a run there is resumed.")
    ],
    data: Annotated[str, typer.Option(help="digits, an .npz, a folder, ...")] = "digits",
    nodes: Annotated[int, typer.Option(min=2, max=64, help="Number of nodes.")] = 5,
    partition: Annotated[
        str, typer.Option(help="pathological:K classes per node, or dirichlet:ALPHA.")
    ] = "pathological:3",
    queries: Annotated[
        Queries, typer.Option(help="Ask for one class, or for up to three at once.")
    ] = Queries.SINGLE,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Number of seeds: 0, 1, ...")] = 3,
    methods: Annotated[str, typer.Option(help="Methods, separated by commas; all by default.")] = "",
    model: Annotated[str, typer.Option(help="Built-in architecture of the nodes' models.")] = "cnn",
    samples_per_class: Annotated[
        int, typer.Option(min=0, help="Training samples of each class, over all nodes; 0 takes all.")
    ] = 0,
    test_samples: Annotated[int, typer.Option(min=0, help="Test samples of each class; 0 takes all.")] = 0,
    side: Annotated[int, typer.Option(min=0, help="Pool square images to this side; 0 does not.")] = 0,
    augment: Annotated[
        Augment,
        typer.Option(
            help="shifts: train first models on shifted images, and baselines where it is better for them."
        ),
    ] = Augment.SHIFTS,
    askers: Annotated[int, typer.Option(min=1, help="Most nodes that ask, per seed.")] = 2,
    queries_per_asker: Annotated[int, typer.Option(min=1, help="Most queries of each.")] = 2,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of federated averaging.")] = 40,
    tuning_rounds: Annotated[
        int, typer.Option(min=1, help="Rounds of each try of averaging's hyperparameters.")
    ] = 8,
    daemons: Annotated[
        bool, typer.Option("--daemons", help="Ask the same of real daemons, too, and show the difference.")
    ] = False,
    threads: Annotated[int, typer.Option(min=0, help="Threads of torch; 0 takes all cores.")] = 0,
) -> Answer:
    """Measure QKT and its baselines on one data set; write JSON, a Markdown table and plots."""
    _require_bench()
    from qkt_node.log import configure_logging  # isort: skip - first, see there
    from qkt_bench.plan import BenchPlan, FederationPlan, QueryPlan, parse_partition
    from qkt_bench.run import run_table
    from qkt_bench.shared_models import Rounds
    from qkt_bench.tables import COLUMNS, table_rows
    from qkt_p2p.types import Progress

    configure_logging("auto", "error")
    federation = FederationPlan(
        data,
        nodes,
        parse_partition(partition),
        model,
        samples_per_class,
        test_samples,
        side,
        augment.value,
    )
    plan = BenchPlan(
        federation,
        QueryPlan(queries.value, askers, queries_per_asker),
        tuple(range(seeds)),
        tuple(name for name in methods.split(",") if name),
    )
    with StepBars(output) as bars, _resumable():
        found = run_table(
            plan,
            out,
            daemons=daemons,
            rounds=Rounds(rounds, tuning_rounds, every=max(1, rounds // 10)),
            threads=threads,
            progress=lambda done, total, message: bars.show(Progress("bench", done, total, message)),
        )
    return Answer(
        {"files": _files(plan, out), **{key: found[key] for key in ("label", "methods", "baselines")}},
        [Table(COLUMNS, table_rows(found), title=plan.label), f"written: {', '.join(_files(plan, out))}"],
    )


def bench_transport(
    output: Output,
    out: Annotated[
        Path, typer.Option("--out", "--home", help="JSON file of the results; the table goes next to it.")
    ],
    megabytes: Annotated[int, typer.Option(min=1, max=1024, help="MiB of one transfer.")] = 256,
    repeats: Annotated[int, typer.Option(min=1, max=100, help="Transfers by each way.")] = 7,
    chunk_kib: Annotated[int, typer.Option(min=1, max=1024, help="KiB of one chunk.")] = 512,
    large_megabytes: Annotated[
        int, typer.Option(min=1, max=1024, help="MiB of the transfers that show memory.")
    ] = 1024,
) -> Answer:
    """Measure what the transport carries, at which cost, against bare gRPC and a socket."""
    _require_bench()
    from qkt_bench.transport.run import TransportPlan, run_transport
    from qkt_bench.transport.summary import COLUMNS, markdown, table_rows
    from qkt_p2p.types import Progress

    plan = TransportPlan(megabytes, repeats, chunk_kib, large_megabytes)
    with StepBars(output) as bars:
        found = run_transport(
            plan, lambda done, total, message: bars.show(Progress("bench", done, total, message))
        )
    table = out.with_suffix(".md")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(f"{json.dumps(found, indent=2)}\n")
    table.write_text(markdown(found))
    return Answer(
        {"files": [str(out), str(table)], "rows": found["rows"]},
        [Table(COLUMNS, table_rows(found)), f"written: {out}, {table}"],
    )


@contextmanager
def _resumable() -> Iterator[None]:
    """Tell who interrupts that nothing is lost."""
    from qkt_p2p.errors import CancelledError

    try:
        yield
    except KeyboardInterrupt:
        raise CancelledError(
            "interrupted; what is finished is kept", fix="run the same command again to go on"
        ) from None


def _require_bench() -> None:
    from qkt_p2p.errors import ConfigError

    if find_spec("qkt_bench") is None:
        raise ConfigError(
            "this installation has no bench: the package qkt_bench is missing",
            fix="install from a checkout of the source, where `make install` brings it along",
        )


def _files(plan: "BenchPlan", out: Path) -> list[str]:
    return [str(out / f"{plan.label}{ending}") for ending in (".json", ".md", "-gain.svg", "-bytes.svg")]
