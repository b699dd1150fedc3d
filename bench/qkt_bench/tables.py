"""The Markdown table of a bench, from its JSON object alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

COLUMNS: Final = ("method", "query", "own", "both", "gain", "bytes", "seconds")


def markdown(data: Mapping[str, Any]) -> str:
    """Return the table with what it was measured on."""
    rows = table_rows(data)
    lines = [
        f"### {data['label']}",
        "",
        _sentence(data),
        "",
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
    return (
        f"{federation['nodes']} nodes, `{federation['model']}`, {partition['kind']} {partition['value']:g}, "
        f"{federation['samples_per_class'] or 'all'} training samples per class over all nodes, "
        f"{federation['test_samples'] or 'all'} test samples per class; {len(asked)} {queries['kind']} "
        f"queries over seeds {seeds}, {few} of them for classes that the asker has a few samples of. "
        "Accuracies in percent on test data, jointly over own and query classes, mean ± sample deviation "
        "over seeds; gain in points over the average of the baselines in the table; bytes of the "
        "asker, both ways; seconds of all nodes' work, one after the other."
    )


def _notes(data: Mapping[str, Any]) -> list[str]:
    notes = []
    for name, figures in data["methods"].items():
        if figures["masks_f1"] is not None:
            told = [f"masks F1 {figures['masks_f1']['mean']:.3f}"]
            for key, over in (("ranks_over_nodes", "nodes"), ("ranks_over_classes", "classes")):
                if figures[key] is not None:
                    told.append(f"rank correlation over {over} {figures[key]['mean']:.2f}")
            notes.append(f"- {name}: {'; '.join(told)}")
        for key, kind in (("fedavg_bytes", "query"), ("fedavg_bytes_both", "mean")):
            ratio = figures[key]
            if ratio is not None and name not in ("fedavg", "fedprox", "fedavg-ft"):
                notes.append(
                    f"- {name}: FedAvg moves at least {ratio['least_ratio']:.1f} times its bytes until the "
                    f"same {kind} accuracy; it got there in {ratio['reached']} of {ratio['queries']} queries"
                )
    if data["daemons_difference"] is not None:
        notes.append(
            "- qkt-daemons: no class's accuracy differs from qkt by more than "
            f"{100 * data['daemons_difference']:.2f} points in any query"
        )
    return notes


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
