"""`query`: asks peers for classes, through the running daemon."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qkt_node.cli.awaiting import run
from qkt_node.cli.output import Answer, Output
from qkt_node.cli.progress import StepBars
from qkt_node.cli.tables import Table
from qkt_node.cli.verbs import HomeOption
from qkt_p2p.commands import command
from qkt_p2p.errors import CancelledError, NotRunningError, QktError, UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from qkt_node.events import QueryEvent, QueryOptions

_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(s|m|h|d)?")
_UNIT_SECONDS = {None: 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

ClassesOption = Annotated[
    str, typer.Option("--classes", help="Classes to learn, separated by commas.", show_default=False)
]
MediumOption = Annotated[str, typer.Option(help="Medium of the synthetic batches; by default node.toml's.")]
DeadlineOption = Annotated[
    str, typer.Option(help="Time until the query ends, as 120s, 2m or 1h; by default node.toml's.")
]
LightOption = Annotated[
    bool, typer.Option("--light", help="QKT Light: fewer bytes and seconds, for a little accuracy.")
]
ForceOption = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Ask for classes too that the node knows well already, and take losses that nothing tells.",
    ),
]
# The most is what a message's uint64 holds.
QuerySeedOption = Annotated[
    int, typer.Option(min=0, max=2**64 - 1, help="Seed of the query; 0 takes the node's.")
]


def query(
    output: Output,
    home: HomeOption,
    classes: ClassesOption,
    medium: MediumOption = "",
    deadline: DeadlineOption = "",
    seed: QuerySeedOption = 0,
    force: ForceOption = False,
    light: LightOption = False,
    trial: Annotated[
        bool, typer.Option("--trial", help="Measure what it would bring, and keep the old model.")
    ] = False,
    token: Annotated[
        str, typer.Option(help="Name of this query for you: the same token is answered by the same query.")
    ] = "",
) -> Answer:
    """Learn classes that peers know; accepted only where validation finds it better."""
    from qkt_node.events import QueryOptions

    options = QueryOptions(
        classes=split_classes(classes),
        medium=medium,
        deadline_seconds=parse_duration(deadline),
        seed=seed,
        force=force,
        trial=trial,
        light=light,
        token=token,
    )
    with StepBars(output) as bars:
        data, error = run(run_query(home, options, bars))
    return Answer(data, shown_result(data), error)


async def run_query(
    home: Path, options: "QueryOptions", bars: StepBars
) -> tuple[dict[str, Any], QktError | None]:
    """Run a query through the daemon of `home`; return its result, and its error where not accepted.

    Ctrl-C cancels the query, and this returns how that ended; a second Ctrl-C raises CancelledError.
    """
    import asyncio

    from qkt_node.cli.interruption import Interruption
    from qkt_node.control.client import connect
    from qkt_node.home import open_home

    try:
        async with connect(open_home(home)) as client, Interruption(client) as interruption:
            return await _followed(client.run_query(options), home, bars=bars, begun=interruption.begun)
    except asyncio.CancelledError:
        raise CancelledError("interrupted", fix=command("queries", "--home", home)) from None


async def watch_query(home: Path, query_id: str, bars: StepBars) -> tuple[dict[str, Any], QktError | None]:
    """Follow a query that was begun elsewhere; return as `run_query` does. Ctrl-C leaves it alone."""
    from qkt_node.control.client import connect
    from qkt_node.home import open_home

    async with connect(open_home(home)) as client:
        return await _followed(client.watch_query(query_id), home, bars=bars, begun=lambda _: None)


async def _followed(
    events: "AsyncIterator[QueryEvent]", home: Path, *, bars: StepBars, begun: "Callable[[str], None]"
) -> tuple[dict[str, Any], QktError | None]:
    """Show a query's events up to its end; where the daemon ends first, tell how to follow it further."""
    from qkt_node.events import Ended, Started

    again = command("queries", "--home", home)
    try:
        async for event in events:
            match event:
                case Started():
                    again = command("queries", "watch", event.query_id, "--home", home)
                    bars.begin(event.query_id)
                    begun(event.query_id)
                case Ended():
                    return event.data, event.error
                case progress:
                    bars.show(progress)
    except NotRunningError as error:
        raise NotRunningError(
            f"{error.message}; what it had under way goes on when it is started again",
            fix=f"{command('start', '--home', home)}, then {again}",
        ) from error
    raise QktError("the daemon ended before the query did", fix=again)


def split_classes(text: str) -> tuple[str, ...]:
    """Split "a, b" into class names; raises UsageError where there is none."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise UsageError("--classes names no class", fix="qkt-node query --classes a,b")
    return names


def parse_duration(text: str) -> float:
    """Return the seconds of "90", "90s", "2m", "1h" or "30d", 0 for an empty text; raises UsageError."""
    if not text:
        return 0.0
    found = _DURATION.fullmatch(text.strip())
    if found is None or float(found[1]) == 0:
        raise UsageError(f"{text[:40]!r} is not a duration", fix="use 120s, 2m, 1h or 30d")
    return float(found[1]) * _UNIT_SECONDS[found[2]]


def shown_result(data: dict[str, Any]) -> list[str | Table]:
    """Return a query's result for people: what changed, who taught, where the report is; nothing for none."""
    if not data:
        return []
    teachers = [
        [
            teacher["name"],
            ", ".join(teacher["classes"]) or "-",
            str(teacher["samples"]),
            f"{teacher['bytes'] / 1024:.0f} KiB",
            f"{teacher['weight']:.2f}" if teacher["used"] else "-",
            use_of(teacher),
        ]
        for teacher in data["teachers"]
    ]
    shown: list[str | Table] = []
    if data["accuracy"]:
        shown.append(accuracy_table(data))
    if teachers:
        shown.append(Table(["teacher", "taught", "samples", "bytes", "weight", ""], teachers, "Teachers"))
    shown.append(_summary(data))
    if data["outcome"] == "accepted":
        # A refusal's reason is the error that ends the verb.
        shown.append(f"gate: {data['reason']}")
    if spent := data["epsilon_spent"]:
        told = ", ".join(f"{data['peer_names'].get(peer, peer[:8])} {spent[peer]:g}" for peer in spent)
        shown.append(f"privacy: with noise, epsilon by peer: {told}")
    if data["report"]:
        shown.append(f"report: {data['report']}")
    return shown


def accuracy_table(data: Mapping[str, Any]) -> Table:
    """Return what was measured of each class before and after a query."""
    rows = [
        [
            name,
            "asked" if item["asked"] else "own",
            percent(item["before"]),
            percent(item["after"]),
            item["measured_on"],
        ]
        for name, item in data["accuracy"].items()
    ]
    return Table(["class", "", "before", "after", "measured on"], rows, "Accuracy")


def percent(value: float | None) -> str:
    """Return a share as a percentage; "-" where nothing was measured."""
    return "-" if value is None else f"{100 * value:.1f} %"


def use_of(teacher: Mapping[str, Any]) -> str:
    """Return whether a teacher's response is used, and why not, or not all of it."""
    if not teacher["used"]:
        return str(teacher["reason"] or "not asked")
    # Unknown to queries of earlier versions.
    missing, withheld = teacher.get("missing", ()), teacher.get("withheld", ())
    parts = ["used"]
    if withheld:
        parts.append(f"its privacy budget of {', '.join(withheld)} is spent")
    if missing:
        parts.append(f"{', '.join(missing)} did not come: {teacher['reason']}")
    return ", but ".join(parts)


def _summary(data: dict[str, Any]) -> str:
    asked, own = data["mean_query_accuracy"], data["mean_local_accuracy"]
    saved = data.get("bytes_saved", 0)  # Unknown to queries of earlier versions.
    compressed = f" ({saved / 1024:.0f} KiB saved by compression)" if saved else ""
    measured = (
        f" from {percent(asked['before'])} to {percent(asked['after'])}, "
        f"own classes from {percent(own['before'])} to {percent(own['after'])}"
        if data["accuracy"]
        else ""
    )
    trial = " in a trial, the old model stays" if data.get("trial") and data["outcome"] == "accepted" else ""
    return (
        f"{data['outcome']}{trial}: {', '.join(data['classes'])}{measured}, "
        f"{data['bytes_received'] / 1024:.0f} KiB received{compressed}, {data['seconds']['total']:.1f} s"
    )
