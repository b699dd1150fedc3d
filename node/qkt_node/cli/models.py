"""`models`: the versions of a node's model, going back to one, and how two differ."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qkt_node.cli.output import Answer, Output
from qkt_node.cli.query import percent
from qkt_node.cli.question import ask_daemon, shown_time
from qkt_node.cli.tables import Table
from qkt_node.cli.verbs import HomeOption
from qkt_p2p.commands import command
from qkt_p2p.errors import UsageError
from qkt_p2p.limits import MAX_MODEL_VERSION

if TYPE_CHECKING:
    from qkt_p2p.pb import control_pb2 as pb


class ModelsAction(StrEnum):
    """What to do with model versions."""

    LIST = "list"
    ROLLBACK = "rollback"
    DIFF = "diff"


_VERSIONS: Any = {"min": 0, "max": MAX_MODEL_VERSION, "show_default": False}
_Version = Annotated[
    int,
    typer.Argument(
        metavar="VERSION",
        help="Which; for rollback by default the one that the current one came from.",
        **_VERSIONS,
    ),
]
_Other = Annotated[int, typer.Argument(metavar="OTHER", help="For diff: the other version.", **_VERSIONS)]


def models(
    output: Output,
    home: HomeOption,
    action: Annotated[ModelsAction, typer.Argument(help="What to do.")] = ModelsAction.LIST,
    version: _Version = 0,
    other: _Other = 0,
) -> Answer:
    """List the versions of this node's model, go back to one, or compare two."""
    if action is ModelsAction.ROLLBACK:
        return _roll_back(home, version)
    if action is ModelsAction.DIFF:
        return _diff(home, version, other)
    found = ask_daemon(home, lambda client: client.models())
    data = [_model(model) for model in found.models]
    rows = [
        [
            f"{model['version']}{' (current)' if model['current'] else ''}",
            str(model["parent"] or "-"),
            model["created_at"],
            ", ".join(model["known_classes"]),
            model["query_id"] or "first training",
        ]
        for model in data
    ]
    rollbacks = [_rollback(each) for each in found.rollbacks]
    told = [
        f"{each['rolled_back_at']}: back from {each['replaced']} to {each['version']}" for each in rollbacks
    ]
    return Answer(
        {"models": data, "rollbacks": rollbacks},
        [Table(["version", "from", "made", "knows", "by"], rows), *told],
    )


def _roll_back(home: Path, version: int) -> Answer:
    now = ask_daemon(home, lambda client: client.roll_back_model(version))
    data = {"version": now.version, "replaced": now.replaced, "known_classes": list(now.known_classes)}
    text = f"version {now.version} is current again, in place of {now.replaced}; it knows "
    return Answer(data, [text + (", ".join(now.known_classes) or "no class")])


def _diff(home: Path, before: int, after: int) -> Answer:
    if not before or not after:
        raise UsageError(
            "models diff needs two versions",
            fix=f"{command('models', 'diff', '1', '2', '--home', home)}, with numbers of models list",
        )
    found = ask_daemon(home, lambda client: client.diff_models(before, after))
    measured = {each.class_name: {"before": each.before, "after": each.after} for each in found.classes}
    data = {
        "before": {"version": before, "trained_classes": list(found.trained_before)},
        "after": {"version": after, "trained_classes": list(found.trained_after)},
        "measured_on": found.measured_on,
        "accuracy": measured,
    }
    rows = []
    for name in dict.fromkeys((*found.trained_before, *found.trained_after)):
        accuracy = measured.get(name, {"before": None, "after": None})
        rows.append([name, _learned(name, found), percent(accuracy["before"]), percent(accuracy["after"])])
    title = f"Accuracy on {found.measured_on} data" if measured else "There are no data to measure on"
    return Answer(
        data, [Table(["class", "learned by", f"version {before}", f"version {after}"], rows, title)]
    )


def _learned(name: str, found: "pb.DiffModelsResponse") -> str:
    if name not in found.trained_after:
        return "the first alone"
    return "both" if name in found.trained_before else "the second alone"


def _model(model: "pb.ModelSummary") -> dict[str, Any]:
    return {
        "version": model.version,
        "current": model.current,
        "parent": model.parent,
        "created_at": shown_time(model.created_at),
        "known_classes": list(model.known_classes),
        "query_id": model.query_id,
        "file": model.file,
    }


def _rollback(rollback: "pb.ModelRollback") -> dict[str, Any]:
    return {
        "rolled_back_at": shown_time(rollback.rolled_back_at),
        "replaced": rollback.replaced,
        "version": rollback.version,
    }
