"""What QKT is measured against: local only, FedAvg, FedProx, FedAvg + fine-tuning, naive KD, an ensemble."""

from __future__ import annotations

import copy
import time
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import torch

from qkt_bench.averaging import state_bytes
from qkt_bench.distilling import Distilling, distil_average
from qkt_bench.methods import CurvePoint, MethodResult
from qkt_bench.predictors import Ensemble, Single, score_accuracies
from qkt_bench.shared_models import ANNEALED, LOCAL_GRID, PROXIMAL_GRID, Rounds, SharedModel, shared_model
from qkt_bench.training import Recipe, samples_of, train_epochs, with_augmented
from qkt_bench.tuning import best_of, query_score

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from qkt_bench.federation import Federation, Say
    from qkt_bench.queries import BenchQuery
    from qkt_p2p.models import Classifier
    from qkt_p2p.types import ClassName

FINE_TUNING_GRID: Final = tuple(Recipe("sgd", rate, epochs) for rate in (0.001, 0.01) for epochs in (1, 5))
DISTILLING_RECIPE: Final = Recipe("adamw", 1e-3, 20)
DISTILLING_GRID: Final = tuple(
    Distilling(DISTILLING_RECIPE, weight, temperature) for weight in (0.5, 0.9) for temperature in (1.0, 4.0)
)


@dataclass(frozen=True, slots=True)
class Local:
    """The asker's first model: nothing is asked and nothing travels."""

    name: str = "local"

    @property
    def configuration(self) -> Mapping[str, Any]:
        """Nothing to choose."""
        return {}

    def run(self, federation: Federation, query: BenchQuery, *, progress: Say) -> MethodResult:
        """Return the model before the query."""
        del progress
        return MethodResult(Single(federation.node(query.asker).classifier))


@dataclass(frozen=True, slots=True)
class Averaged:
    """FedAvg, or FedProx with `proximal`: one global model, trained by all nodes."""

    name: str
    proximal: bool = False
    rounds: Rounds = field(default_factory=Rounds)

    @property
    def configuration(self) -> Mapping[str, Any]:
        """Rounds and the grid that is tuned over."""
        mu = PROXIMAL_GRID if self.proximal else ()
        grid = [asdict(each) for each in LOCAL_GRID]
        return {"rounds": asdict(self.rounds), "grid": grid, "annealed": list(ANNEALED), "mu": list(mu)}

    def run(self, federation: Federation, query: BenchQuery, *, progress: Say) -> MethodResult:
        """Return the global model; its training serves all queries of the federation."""
        shared = shared_model(federation, self.rounds, proximal=self.proximal, say=progress)
        one_way = shared.bytes_per_round * self.rounds.total
        return MethodResult(
            Single(shared.classifier),
            bytes_sent=one_way,
            bytes_received=one_way,
            bytes_federation=2 * one_way * len(federation.nodes),
            seconds=shared.seconds,
            chosen=shared.chosen,
            curve=_curve(federation, query, shared),
        )


@dataclass(frozen=True, slots=True)
class FineTuned:
    """The FedAvg model, trained further on the asker's own data."""

    name: str = "fedavg-ft"
    rounds: Rounds = field(default_factory=Rounds)

    @property
    def configuration(self) -> Mapping[str, Any]:
        """FedAvg's configuration and the grid of the fine-tuning."""
        grid = [asdict(choice) for choice in FINE_TUNING_GRID]
        return {"averaged": Averaged("", rounds=self.rounds).configuration, "grid": grid}

    def run(self, federation: Federation, query: BenchQuery, *, progress: Say) -> MethodResult:
        """Return the fine-tuned model."""
        averaged = Averaged("fedavg", rounds=self.rounds).run(federation, query, progress=progress)
        assert isinstance(averaged.predictor, Single)
        start = averaged.predictor.classifier
        grid = with_augmented(FINE_TUNING_GRID, federation.augment)
        tried = {
            recipe: _timed(lambda recipe=recipe: _fine_tuned(federation, query, start, recipe))
            for recipe in grid
        }
        best, chosen = best_of(grid, lambda recipe: query_score(federation, query, Single(tried[recipe][0])))
        model, seconds = tried[best]
        return replace(
            averaged,
            predictor=Single(model),
            seconds=averaged.seconds + seconds,
            chosen={**chosen, "averaged": averaged.chosen},
            curve=(),
        )


@dataclass(frozen=True, slots=True)
class NaiveDistillation:
    """The peers' models travel to the asker, and their plain average teaches it on its own data."""

    name: str = "naive-kd"

    @property
    def configuration(self) -> Mapping[str, Any]:
        """The grid."""
        return {"grid": [asdict(choice) for choice in DISTILLING_GRID]}

    def run(self, federation: Federation, query: BenchQuery, *, progress: Say) -> MethodResult:
        """Return the distilled model."""
        teachers = [node.classifier for node in federation.others(query.asker)]
        asker = federation.node(query.asker)
        recipes = with_augmented([DISTILLING_RECIPE], federation.augment)
        grid = [replace(choice, local=recipe) for recipe in recipes for choice in DISTILLING_GRID]
        tried = {}
        for settings in grid:
            how = f"weight {settings.weight}, temperature {settings.temperature}"
            progress(f"{how}, augment {settings.local.augment}")
            tried[settings] = _timed(
                lambda settings=settings: distil_average(asker, query, teachers, settings)
            )
        best, chosen = best_of(
            grid, lambda settings: query_score(federation, query, Single(tried[settings][0]))
        )
        received = sum(state_bytes(teacher) for teacher in teachers)
        model, seconds = tried[best]
        return MethodResult(
            Single(model),
            bytes_received=received,
            bytes_federation=received,
            seconds=seconds,
            chosen=chosen,
        )


@dataclass(frozen=True, slots=True)
class MeanOfAll:
    """The ensemble: the peers' models travel to the asker, which averages all nodes' softmaxes."""

    name: str = "ensemble"

    @property
    def configuration(self) -> Mapping[str, Any]:
        """Nothing to choose."""
        return {}

    def run(self, federation: Federation, query: BenchQuery, *, progress: Say) -> MethodResult:
        """Return all nodes' models as one predictor."""
        del progress
        received = sum(state_bytes(node.classifier) for node in federation.others(query.asker))
        models = tuple(node.classifier for node in federation.nodes)
        return MethodResult(Ensemble(models), bytes_received=received, bytes_federation=received)


def _fine_tuned(federation: Federation, query: BenchQuery, start: Classifier, recipe: Recipe) -> Classifier:
    model = copy.deepcopy(start)
    own = samples_of(federation.node(query.asker).train, model)
    train_epochs(model, own, recipe, generator=torch.Generator().manual_seed(query.seed))
    return model


def _timed(make: Any) -> tuple[Classifier, float]:
    started = time.perf_counter()
    return make(), time.perf_counter() - started


def _curve(federation: Federation, query: BenchQuery, shared: SharedModel) -> tuple[CurvePoint, ...]:
    """Return how the query's accuracies grew with the bytes of the asker."""
    local = federation.node(query.asker).local
    among = (*local, *query.classes)
    data = federation.test
    columns = [federation.classes.index(name) for name in among]
    points = []
    for at, logits in zip(shared.at, shared.test_logits, strict=True):
        found = score_accuracies(torch.from_numpy(logits[:, columns]), data, among)
        points.append(
            CurvePoint(2 * shared.bytes_per_round * at, _mean(found, query.classes), _mean(found, local))
        )
    return tuple(points)


def _mean(found: Mapping[ClassName, float], names: Collection[ClassName]) -> float:
    return sum(found[name] for name in names) / len(names)
