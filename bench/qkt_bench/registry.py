"""The methods by name, in the order of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from qkt_bench.baselines import Averaged, FineTuned, Local, MeanOfAll, NaiveDistillation
from qkt_bench.daemons import QktDaemons
from qkt_bench.inprocess import Oracle, Qkt, phase1_alone, swapped_phases
from qkt_p2p.distillation import LearningSettings
from qkt_p2p.errors import UsageError
from qkt_p2p.types import MEDIA

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qkt_bench.methods import Method
    from qkt_bench.shared_models import Rounds

BASELINES: Final = ("local", "fedavg", "fedprox", "fedavg-ft", "naive-kd", "ensemble")
"""What the average of the baselines is taken over."""

ABLATIONS: Final = ("no-masks", "plain-local-loss", "no-phase2", "swapped", "merged")
"""QKT with a part left out or moved."""

EPSILONS: Final = (8.0, 2.0, 1.0)
"""Privacy of what one query's teachers release."""

PLAIN: Final = LearningSettings(calibration=1.0)
MERGED: Final = LearningSettings(
    phase1_steps=LearningSettings().phase1_steps + LearningSettings().phase2_steps
)


def methods(rounds: Rounds) -> dict[str, Method]:
    """Return every method that there is."""
    found: list[Method] = [
        Local(),
        Averaged("fedavg", rounds=rounds),
        Averaged("fedprox", proximal=True, rounds=rounds),
        FineTuned(rounds=rounds),
        NaiveDistillation(),
        MeanOfAll(),
        Qkt(),
        Qkt("qkt-light", light=True),
        *(Qkt(f"medium-{medium}", medium=medium) for medium in MEDIA),
        *(Qkt(f"epsilon-{epsilon:g}", epsilon=epsilon) for epsilon in EPSILONS),
        Oracle(),
        Qkt("no-masks", masked=False, settings=PLAIN),
        Qkt("plain-local-loss", settings=PLAIN),
        Qkt("no-phase2", phases=phase1_alone),
        Qkt("swapped", phases=swapped_phases),
        Qkt("merged", phases=phase1_alone, settings=MERGED),
    ]
    return {method.name: method for method in found}


def chosen_methods(names: Sequence[str], rounds: Rounds, *, daemons: bool) -> list[Method]:
    """Return the methods of those names (all for none) in the table's order; raises UsageError.

    With `daemons` QKT over real daemons comes last.
    """
    known = methods(rounds)
    if unknown := [name for name in names if name not in known]:
        raise UsageError(
            f"there is no method {', '.join(unknown)[:80]}", fix=f"--methods among {','.join(known)}"
        )
    chosen = [method for name, method in known.items() if not names or name in names]
    return [*chosen, QktDaemons()] if daemons else chosen
