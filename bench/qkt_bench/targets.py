"""What the tables are held against: one row per target, with the tables that fall short of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from qkt_bench.comparisons import best_baseline, percent, points_over, share_of_light
from qkt_bench.registry import ABLATIONS, BASELINES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qkt_bench.comparisons import Table

TARGETS_EXPLANATION: Final = (
    "Over all tables below that have the methods in question, of every partition: the mean of their figures, "
    "in how many of them the target is met, and each that falls short. Differences are in points; a table's "
    "figures are means of six queries at most, so that half a point is within chance."
)

_COLUMNS: Final = ("target", "limit", "mean", "met", "short of it")


@dataclass(frozen=True, slots=True)
class Target:
    """`figure` of a table, None where the target is not about it, has to be `limit` at least or at most.

    Figures are compared as they are shown, with so many decimals.
    """

    name: str
    limit: float
    figure: Callable[[Table], float | None]
    at_most: bool = False
    decimals: int = 1
    unit: str = ""
    sign: str = ""

    def met(self, figure: float) -> bool:
        """Return whether `figure` is on the right side of the limit."""
        return figure <= self.limit if self.at_most else figure >= self.limit

    def row(self, tables: Sequence[Table]) -> str:
        """Return the row of this target, tables that miss it by most first."""
        figures = {
            table["label"]: round(figure, self.decimals)
            for table in tables
            if (figure := self.figure(table)) is not None
        }
        if not figures:
            return f"| {self.name} | {self._limit} | - | - | - |"
        short = {label: figure for label, figure in figures.items() if not self.met(figure)}
        worst = sorted(short, key=lambda label: short[label], reverse=self.at_most)
        cells = (
            self.name,
            self._limit,
            self._shown(sum(figures.values()) / len(figures)),
            f"{len(figures) - len(short)} of {len(figures)}",
            ", ".join(f"{label} {self._shown(short[label])}" for label in worst) or "-",
        )
        return f"| {' | '.join(cells)} |"

    def _shown(self, figure: float) -> str:
        return f"{figure:{self.sign}.{self.decimals}f}{self.unit}"

    @property
    def _limit(self) -> str:
        return f"{'at most' if self.at_most else 'at least'} {self._shown(self.limit)}"


def targets(tables: Sequence[Table]) -> str:
    """Return the targets' rows, over the tables in which QKT and the methods that it is held against are."""
    rows = [f"| {' | '.join(_COLUMNS)} |", f"|{'---|' * len(_COLUMNS)}"]
    rows += [target.row([table for table in tables if "qkt" in table["methods"]]) for target in TARGETS]
    return "\n".join(rows)


def _has_baselines(table: Table) -> bool:
    return set(BASELINES) <= set(table["methods"])


def _gain(kind: str) -> Callable[[Table], float | None]:
    def gain(table: Table) -> float | None:
        asked = table["plan"]["queries"]["kind"] == kind
        return percent(table, "qkt", "gain") if asked and _has_baselines(table) else None

    return gain


def _over_best_baseline(table: Table) -> float | None:
    if not _has_baselines(table):
        return None
    return points_over(table, "qkt", best_baseline(table), "both_accuracy")


def _over(one: str, other: str, key: str) -> Callable[[Table], float | None]:
    return lambda table: points_over(table, one, other, key)


def _light(key: str) -> Callable[[Table], float | None]:
    return lambda table: share_of_light(table, key)


def _of_qkt(key: str, partition: str) -> Callable[[Table], float | None]:
    def figure(table: Table) -> float | None:
        figures = table["methods"]["qkt"][key]
        if figures is None or table["plan"]["federation"]["partition"]["kind"] != partition:
            return None
        return float(figures["mean"])

    return figure


def _bytes_of_fedavg(*, resnet: bool) -> Callable[[Table], float | None]:
    def ratio(table: Table) -> float | None:
        figures = table["methods"]["qkt"]["fedavg_bytes"]
        single = table["plan"]["queries"]["kind"] == "single"
        if figures is None or not single or (table["plan"]["federation"]["model"] == "resnet18") != resnet:
            return None
        return float(figures["least_ratio"])

    return ratio


def _best_ablation(table: Table) -> float | None:
    gains = [points_over(table, name, "qkt", "both_accuracy") for name in ABLATIONS]
    return max((gain for gain in gains if gain is not None), default=None)


TARGETS: Final = (
    Target("one query class, over the baselines' average", 20.91, _gain("single"), sign="+"),
    Target("several query classes, over the baselines' average", 14.32, _gain("multi"), sign="+"),
    Target("both kinds, over the best baseline", 0.0, _over_best_baseline, sign="+"),
    Target("query classes, over the oracle", -5.0, _over("qkt", "oracle", "query_accuracy"), sign="+"),
    Target("own classes, over the oracle", -2.0, _over("qkt", "oracle", "own_accuracy"), sign="+"),
    Target("masks F1, pathological", 0.99, _of_qkt("masks_f1", "pathological"), decimals=3),
    Target("ranks over nodes, Dirichlet", 0.9, _of_qkt("ranks_over_nodes", "dirichlet"), decimals=2),
    Target("ranks over classes, Dirichlet", 0.9, _of_qkt("ranks_over_classes", "dirichlet"), decimals=2),
    Target("Light over QKT, both kinds", -3.0, _over("qkt-light", "qkt", "both_accuracy"), sign="+"),
    Target("Light's share of QKT's bytes", 50.0, _light("bytes"), at_most=True, decimals=0, unit=" %"),
    Target("Light's share of QKT's seconds", 50.0, _light("seconds"), at_most=True, decimals=0, unit=" %"),
    Target("FedAvg's bytes for the query class", 5.0, _bytes_of_fedavg(resnet=False), unit=" times"),
    Target("the same with `resnet18`", 50.0, _bytes_of_fedavg(resnet=True), decimals=0, unit=" times"),
    Target("the best ablation over QKT, both kinds", 0.0, _best_ablation, at_most=True, sign="+"),
)
