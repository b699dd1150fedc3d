"""The seam between the bench and what it compares."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qkt_bench.federation import Federation, Say
    from qkt_bench.predictors import Predictor
    from qkt_bench.queries import BenchQuery
    from qkt_p2p.types import ClassName


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Accuracies in [0, 1] after the asker moved so many bytes, both ways."""

    bytes: int
    query: float
    own: float


@dataclass(frozen=True, slots=True, eq=False)
class MethodResult:
    """How one query ended.

    Where the model is out of reach `predictor` is None, and `accuracy` says what was measured where it is,
    on the same test data and jointly over the same classes.
    Bytes are those of the asker, `bytes_federation` all that crossed the network, each counted once.
    `seconds` is the work of all nodes, one after the other. `evidence` is what each teacher's model
    showed of each class, `chosen` the hyperparameters, `curve` how accuracy grew with bytes.
    """

    predictor: Predictor | None
    bytes_sent: int = 0
    bytes_received: int = 0
    bytes_federation: int = 0
    seconds: float = 0.0
    outcome: str = "learned"
    evidence: Mapping[str, Mapping[ClassName, float]] = field(default_factory=dict)
    chosen: Mapping[str, Any] = field(default_factory=dict)
    curve: tuple[CurvePoint, ...] = ()
    accuracy: Mapping[ClassName, float] = field(default_factory=dict)


class Method(Protocol):
    """One way to learn what a query asks for."""

    @property
    def name(self) -> str:
        """Its name in tables and on the command line."""
        ...

    @property
    def configuration(self) -> Mapping[str, Any]:
        """Everything beside federation and query that the result depends on, as JSON values."""
        ...

    def run(self, federation: Federation, query: BenchQuery, *, progress: Say) -> MethodResult:
        """Answer the query; a failed one leaves the old model and says so in `outcome`."""
        ...
