"""Plots of a table, from its JSON object alone: gain per class, and accuracy against bytes."""

from __future__ import annotations

from io import BytesIO
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

from qkt_bench.registry import ABLATIONS, BASELINES
from qkt_p2p.files import replace_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_STYLE: Final = {"svg.hashsalt": "qkt-bench", "svg.fonttype": "none", "font.size": 9}
_SIZE: Final = (7.0, 3.6)
_NOT_SHOWN: Final = ("local", *ABLATIONS)
_MARKERS: Final = "os^"


def draw_plots(data: Mapping[str, Any], folder: Path) -> None:
    """Write LABEL-gain.svg and LABEL-bytes.svg."""
    with mpl.rc_context(_STYLE):  # type: ignore[arg-type]
        for kind, figure in (("gain", gain_per_class(data)), ("bytes", accuracy_against_bytes(data))):
            buffer = BytesIO()
            figure.savefig(buffer, format="svg", metadata={"Date": None})
            replace_file(folder / f"{data['label']}-{kind}.svg", buffer.getvalue(), mode=0o644)


def gain_per_class(data: Mapping[str, Any]) -> Figure:
    """Return bars: what each method that is no baseline gains over their average on each query class."""
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    found: dict[str, dict[str, list[float]]] = {}
    for cell in data["cells"]:
        for name in cell["query"]["classes"]:
            method = "baselines" if cell["method"] in BASELINES else cell["method"]
            found.setdefault(method, {}).setdefault(name, []).append(cell["accuracy"][name])
    base = found.pop("baselines", {})
    classes = [
        name for name in data["federations"][0]["test"] if any(name in each for each in found.values())
    ]
    width = 0.8 / max(len(found), 1)
    for number, (method, by_class) in enumerate(found.items()):
        gains = [100 * (fmean(by_class[name]) - fmean(base.get(name, [0.0]))) for name in classes]
        axes.bar([at + number * width for at in range(len(classes))], gains, width, label=method)
    axes.set_xticks([at + 0.4 - width / 2 for at in range(len(classes))], classes, rotation=30)
    axes.set_ylabel("points over the baselines' average")
    axes.axhline(0, color="black", linewidth=0.6)
    if found:
        axes.legend(frameon=False, fontsize=7, ncols=3)
    return figure


def accuracy_against_bytes(data: Mapping[str, Any]) -> Figure:
    """Return points, accuracy on query classes by bytes of the asker, and the curves of averaging.

    Ablations move as many bytes as the whole, and are left out.
    """
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    shown = {name: found for name, found in data["methods"].items() if name not in _NOT_SHOWN}
    for number, (method, figures) in enumerate(shown.items()):
        moved = max(figures["bytes"]["mean"], 1.0)
        # Twenty colours: the usual ten come again, and two methods would look the same.
        colour = mpl.colormaps["tab20"](number % 20)
        reached = 100 * figures["query_accuracy"]["mean"]
        axes.scatter(moved, reached, label=method, color=colour, marker=_MARKERS[number % 3], zorder=3)
        curves = [cell["curve"] for cell in data["cells"] if cell["method"] == method and cell["curve"]]
        if curves:
            steps = list(zip(*curves, strict=True))
            axes.plot(
                [fmean(point["bytes"] for point in step) for step in steps],
                [100 * fmean(point["query"] for point in step) for step in steps],
                color=colour,
                linewidth=1,
            )
    axes.set_xscale("symlog", linthresh=1000)
    axes.set_ylim(-3, 103)
    axes.set_xlabel("bytes of the asker, both ways")
    axes.set_ylabel("accuracy on query classes, %")
    axes.legend(frameon=False, fontsize=7, ncols=2)
    return figure
