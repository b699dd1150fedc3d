"""The Markdown table of a bench, from its JSON object alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from qkt_p2p.types import USUAL_AUGMENTATION

if TYPE_CHECKING:
    from collections.abc import Mapping

COLUMNS: Final = ("method", "query", "own", "both", "gain", "bytes", "seconds", "FedAvg's bytes")

EXPLANATION: Final = (
    "Accuracies in percent on test data, jointly over own and query classes, mean ± sample deviation over "
    "seeds; gain in points over the average of the baselines in the table; bytes of the asker, both ways; "
    "seconds of all nodes' work, one after the other; FedAvg's bytes, in multiples of the method's, until it "
    "has the method's query accuracy, and the method's mean over both kinds of classes: at least, for it got "
    "there in so many of the queries."
)


def markdown(data: Mapping[str, Any], *, explained: bool = True) -> str:
    """Return the table with what it was measured on, and what its columns say unless that is known."""
    rows = table_rows(data)
    lines = [
        f"### {data['label']}",
        "",
        _sentence(data),
        "",
        *([EXPLANATION, ""] if explained else []),
        f"| {' | '.join(COLUMNS)} |",
        f"|{'---|' * len(COLUMNS)}",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        *_notes(data),
    ]
    return "\n".join(lines) + "\n"


def table_rows(data: Mapping[str, Any]) -> list[list[str]]:
    """Return the cells of the table: accuracies in percent, gain in points, mean ± deviation over seeds."""
    return [
        [
            name,
            *(_percent(figures[key]) for key in ("query_accuracy", "own_accuracy", "both_accuracy")),
            _percent(figures["gain"], signed=True),
            _bytes(figures["bytes"]["mean"]),
            f"{figures['seconds']['mean']:.1f}",
            _ratios(figures) if not name.startswith("fed") else "-",
        ]
        for name, figures in data["methods"].items()
    ]


def _sentence(data: Mapping[str, Any]) -> str:
    plan = data["plan"]
    federation, queries = plan["federation"], plan["queries"]
    asked = [query for each in data["federations"] for query in each["queries"]]
    few = sum(any(query["own_samples"]) for query in asked)
    seeds = ", ".join(map(str, plan["seeds"]))
    partition = federation["partition"]
    trained = "" if federation["augment"] == USUAL_AUGMENTATION else f" (`augment = {federation['augment']}`)"
    return (
        f"{federation['nodes']} nodes, `{federation['model']}`{trained}, "
        f"{partition['kind']} {partition['value']:g}, "
        f"{federation['samples_per_class'] or 'all'} training samples per class over all nodes, "
        f"{federation['test_samples'] or 'all'} test samples per class; {len(asked)} {queries['kind']} "
        f"queries over seeds {seeds}, {few} of them for classes that the asker has a few samples of."
    )


def _notes(data: Mapping[str, Any]) -> list[str]:
    told: dict[str, list[str]] = {}
    for name, figures in data["methods"].items():
        if figures["masks_f1"] is not None:
            masks = [f"masks F1 {figures['masks_f1']['mean']:.3f}"]
            for key, over in (("ranks_over_nodes", "nodes"), ("ranks_over_classes", "classes")):
                if figures[key] is not None:
                    masks.append(f"rank correlation over {over} {figures[key]['mean']:.2f}")
            told.setdefault("; ".join(masks), []).append(name)
    notes = [f"- {', '.join(names)}: {masks}" for masks, names in told.items()]
    if data["daemons_difference"] is not None:
        notes.append(
            "- qkt-daemons: no class's accuracy differs from qkt by more than "
            f"{100 * data['daemons_difference']:.2f} points in any query"
        )
    return notes


def _ratios(figures: Mapping[str, Any]) -> str:
    found = [figures[key] for key in ("fedavg_bytes", "fedavg_bytes_both") if figures[key] is not None]
    return ", ".join(f"{r['least_ratio']:.1f} ({r['reached']}/{r['queries']})" for r in found) or "-"


def _percent(spread: Mapping[str, Any] | None, *, signed: bool = False) -> str:
    if spread is None:
        return "-"
    mean = f"{100 * spread['mean']:{'+' if signed else ''}.1f}"
    return mean if spread["sd"] is None else f"{mean} ± {100 * spread['sd']:.1f}"


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
