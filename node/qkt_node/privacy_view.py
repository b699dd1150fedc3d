"""What a node's ledger says, and what its budget leaves, as its files say it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qkt_node.model_files import stored_model
from qkt_p2p.privacy.accountant import composed, epsilon_of
from qkt_p2p.store.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qkt_node.home import Home
    from qkt_node.settings import NodeConfig
    from qkt_p2p.privacy.accountant import PrivacyBudget
    from qkt_p2p.privacy.ledger import Disclosure
    from qkt_p2p.types import ClassName, PeerId


@dataclass(frozen=True, slots=True)
class ClassAccount:
    """What a class has spent: `spent` is the epsilon of all its releases together."""

    class_name: ClassName
    releases: int
    spent: float
    releases_left: int


@dataclass(frozen=True, slots=True)
class Account:
    """A node's privacy: its `budget`, if any, each class's part, whom it taught, and the `names` of these."""

    budget: PrivacyBudget | None
    classes: Sequence[ClassAccount]
    disclosures: Sequence[Disclosure]
    names: Mapping[PeerId, str]


def account_of(home: Home, config: NodeConfig) -> Account:
    """Read a home's ledger; raises ConfigError where its journal or its model is not usable."""
    spent: dict[ClassName, list[float]] = {}
    disclosures: Sequence[Disclosure] = ()
    names: dict[PeerId, str] = {}
    if home.database.exists():
        with closing(Journal(home.database)) as journal:
            spent, disclosures = journal.spent(), journal.disclosures()
            names = {record.peer: record.node_name for record in journal.known_peers()}
    budget, model = config.privacy.budget(), stored_model(home, config)
    own = model.local if model is not None and budget is not None else ()
    classes = [
        ClassAccount(
            name,
            releases=len(mus),
            spent=epsilon_of(composed(mus), config.privacy.delta),
            releases_left=budget.releases_left(mus) if budget is not None else 0,
        )
        for name, mus in {**dict.fromkeys(own, ()), **spent}.items()
    ]
    return Account(budget, classes, disclosures, names)
