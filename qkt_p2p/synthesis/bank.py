"""Released statistics per model version and class: made once, kept as bytes."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import load, save

from qkt_p2p.limits import MAX_FITTED_NUMBERS
from qkt_p2p.privacy.ledger import Release
from qkt_p2p.seeds import derived_seed
from qkt_p2p.synthesis.prototypes import fit_prototype
from qkt_p2p.synthesis.recipes import fit_recipe, masked_recipe
from qkt_p2p.synthesis.release import release, require_enough
from qkt_p2p.synthesis.targets import soft_answers
from qkt_p2p.wire.prototypes import encode_prototype
from qkt_p2p.wire.recipes import encode_recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from qkt_p2p.privacy.ledger import Privacy
    from qkt_p2p.synthesis.medium import Holdings
    from qkt_p2p.synthesis.release import Statistics
    from qkt_p2p.types import ClassName, ReportDone
    from qkt_p2p.wire.recipes import Recipe

    Inputs = npt.NDArray[np.float32]


class Bank:
    """The recipes of one teacher's classes in one space of so many `numbers` a sample.

    `space` names it, `enter` takes inputs there.
    """

    def __init__(
        self, holdings: Holdings, *, space: str, numbers: int, rank: int, enter: Callable[[Inputs], Inputs]
    ) -> None:
        self._holdings = holdings
        self._space = space
        self._numbers = numbers
        self._rank = rank
        self._enter = enter

    def description(
        self, class_name: ClassName, mask: Sequence[ClassName], report: ReportDone = lambda *_: None
    ) -> bytes:
        """Return what describes a class as it travels: its recipe, with privacy its prototype.

        Raises what `release` and `report` raise, and BudgetSpentError.
        """
        if self._holdings.privacy is not None:
            return self._released(class_name, self._holdings.privacy, report)
        return encode_recipe(self.recipe(class_name, mask, report))

    def recipe(
        self, class_name: ClassName, mask: Sequence[ClassName], report: ReportDone = lambda *_: None
    ) -> Recipe:
        """Return the recipe of a class with targets over `mask`; raises what `release` and `report` raise."""
        classes = self._holdings.classifier.classes
        return masked_recipe(self._statistics(class_name, report), class_name, classes=classes, mask=mask)

    def _statistics(self, class_name: ClassName, report: ReportDone) -> Statistics:
        inputs, cache = self._holdings.data.of_class(class_name), self._holdings.cache
        key = self._key(class_name, inputs)
        # Looked up once: another thread may evict what is there.
        kept = cache.get(key)
        if kept is None:
            kept = cache[key] = self._fit(class_name, inputs, report)
        return load(kept)

    def _fit(self, class_name: ClassName, inputs: Inputs, report: ReportDone) -> bytes:
        holdings = self._holdings
        inputs = self._some(class_name, inputs)
        statistics = fit_recipe(
            self._enter(inputs),
            soft_answers(holdings.classifier, inputs, report),
            rank=self._rank,
            seed=derived_seed(holdings.model_version, "fit", self._space, class_name),
            report=report,
        )
        return bytes(save(dict(release(statistics, class_name=class_name, samples=len(inputs)))))

    def _released(self, class_name: ClassName, privacy: Privacy, report: ReportDone) -> bytes:
        """Return the prototype of a class as it was released first; whatever the model is, it stays."""
        inputs, mu = self._holdings.data.of_class(class_name), privacy.budget.release_mu
        require_enough(class_name, len(inputs))
        about = f"{self._space}\n{mu!r}\n{class_name}\n{inputs.shape}\n"
        key = f"prototype-{_digest(about, inputs)}"
        kept = privacy.ledger.released(key)
        if kept is None:
            privacy.ledger.require_room(class_name, mu, most_mu=privacy.budget.mu)
            data = encode_prototype(fit_prototype(inputs, self._enter, mu=mu, report=report))
            found = Release(key, class_name, self._space, mu, data)
            kept = privacy.ledger.note_release(found, most_mu=privacy.budget.mu)
        return kept

    def _some(self, class_name: ClassName, inputs: Inputs) -> Inputs:
        """Return all `inputs` of a class, or as many as fit into memory where an asker's space is large."""
        most = MAX_FITTED_NUMBERS // self._numbers
        if len(inputs) <= most:
            return inputs
        seed = derived_seed(self._holdings.model_version, "some", self._space, class_name)
        chosen: Inputs = inputs[np.sort(np.random.default_rng(seed).permutation(len(inputs))[:most])]
        return chosen

    def _key(self, class_name: ClassName, inputs: Inputs) -> str:
        """Return a key that changes with the space, the rank, the model version, the class and its data."""
        about = f"{self._space}\n{self._rank}\n{class_name}\n{inputs.shape}\n"
        return f"recipe-{self._holdings.model_version}-{_digest(about, inputs)}"


def _digest(about: str, inputs: Inputs) -> str:
    digest = hashlib.sha256(about.encode())
    digest.update(np.ascontiguousarray(inputs).data)
    return digest.hexdigest()[:32]
