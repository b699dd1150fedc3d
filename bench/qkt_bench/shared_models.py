"""Global models of federated averaging: tuned, trained once per federation, and kept with their curve."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from qkt_bench.averaging import Averaging, average_rounds, state_bytes
from qkt_bench.plan import key_of
from qkt_bench.training import Recipe, with_augmented
from qkt_bench.tuning import best_of, global_score
from qkt_p2p.models import classifier_from_arrays, classifier_to_arrays, logits_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qkt_bench.cache import Arrays
    from qkt_bench.federation import Federation, Say
    from qkt_p2p.models import Classifier

LOCAL_GRID: Final = (
    *(Recipe("sgd", learning_rate, epochs=1) for learning_rate in (0.01, 0.03, 0.1)),
    Recipe("sgd", 0.03, epochs=2),
)
ANNEALED: Final = (False, True)
PROXIMAL_GRID: Final = (0.001, 0.01, 0.1)

_LOGITS: Final = "test_logits"


@dataclass(frozen=True, slots=True)
class Rounds:
    """How long averaging runs, how long each try of the grid does, and how often the curve is taken."""

    total: int = 40
    tuning: int = 8
    every: int = 4


@dataclass(frozen=True, slots=True, eq=False)
class SharedModel:
    """A global model, what it took, and its test logits [points, n, classes] after `at` rounds."""

    classifier: Classifier
    seconds: float
    chosen: dict[str, Any]
    at: tuple[int, ...]
    test_logits: np.ndarray

    @property
    def bytes_per_round(self) -> int:
        """Bytes of one way of one node and round."""
        return state_bytes(self.classifier)


def shared_model(federation: Federation, rounds: Rounds, *, proximal: bool, say: Say) -> SharedModel:
    """Return the federation's global model under the settings that its reference was tuned to."""
    chosen = tuned(federation.reference(), rounds, proximal=proximal, say=say)
    settings = _settings(chosen["settings"], rounds.total)
    name = f"averaged-{key_of(settings, rounds)}"
    arrays, metadata = federation.cache.arrays(name, lambda: _trained(federation, settings, rounds, say))
    logits = arrays.pop(_LOGITS)
    points, seconds = json.loads(metadata["points"]), float(metadata["seconds"])
    return SharedModel(classifier_from_arrays(arrays, metadata), seconds, chosen, tuple(points), logits)


def tuned(federation: Federation, rounds: Rounds, *, proximal: bool, say: Say) -> dict[str, Any]:
    """Return the best settings and the grid's record; the proximal term is tuned on top of the local ones."""
    recipes = with_augmented(LOCAL_GRID, federation.augment)
    local = [
        Averaging(rounds.tuning, recipe, annealed=annealed) for annealed in ANNEALED for recipe in recipes
    ]
    found = federation.cache.data(
        f"tuned-{key_of(rounds, [asdict(choice) for choice in local])}",
        lambda: _best(federation, local, say),
    )
    if not proximal:
        return found
    base = _settings(found["settings"], rounds.tuning)
    grid = [replace(base, mu=mu) for mu in PROXIMAL_GRID]
    return federation.cache.data(
        f"tuned-{key_of(rounds, [asdict(choice) for choice in grid])}", lambda: _best(federation, grid, say)
    )


def _best(federation: Federation, grid: Sequence[Averaging], say: Say) -> dict[str, Any]:
    def score(settings: Averaging) -> float:
        recipe = settings.local
        how = f"augment {recipe.augment}, annealed {settings.annealed}"
        say(f"tuning: learning rate {recipe.learning_rate}, {recipe.epochs} epochs, mu {settings.mu}, {how}")
        return global_score(federation, average_rounds(federation, settings, after_round=lambda *_: None))

    return best_of(grid, score)[1]


def _settings(chosen: dict[str, Any], rounds: int) -> Averaging:
    return Averaging(rounds, Recipe(**chosen["local"]), chosen["mu"], chosen["annealed"])


def _trained(
    federation: Federation, settings: Averaging, rounds: Rounds, say: Say
) -> tuple[Arrays, dict[str, str]]:
    inputs = torch.from_numpy(federation.test.inputs)
    points: list[int] = []
    logits: list[np.ndarray] = []
    took = 0.0

    def after_round(number: int, model: Classifier, seconds: float) -> None:
        nonlocal took
        took = seconds
        say(f"seed {federation.seed}: round {number} of {settings.rounds}")
        if number % rounds.every == 0 or number == settings.rounds:
            points.append(number)
            logits.append(logits_of(model, inputs).numpy().astype(np.float32))

    model = average_rounds(federation, settings, after_round=after_round)
    arrays, metadata = classifier_to_arrays(model)
    return arrays | {_LOGITS: np.stack(logits)}, metadata | {
        "points": json.dumps(points),
        "seconds": f"{took:.3f}",
    }
