"""What a node's ledger keeps: noisy statistics that it released, what they cost, and whom it taught."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from qkt_p2p.privacy.accountant import PrivacyBudget
    from qkt_p2p.types import ClassName, PeerId


@dataclass(frozen=True, slots=True)
class Release:
    """Noisy statistics of one class in one space, as bytes; `mu` is what they cost each of its samples.

    `key` names everything that they depend on, the samples included: whoever asks for the same gets the same,
    which costs nothing more.
    """

    key: str
    class_name: ClassName
    space: str
    mu: float
    data: bytes


@dataclass(frozen=True, slots=True)
class Disclosure:
    """How often, and when, one peer was taught a class in a medium, with that much privacy; 0 without noise.

    Times are seconds since 1970.
    """

    peer: PeerId
    class_name: ClassName
    medium: str
    epsilon: float
    delta: float
    times: int
    first_at: float
    last_at: float


class Ledger(Protocol):
    """Where releases are kept for good: what was forgotten would be released again."""

    def released(self, key: str) -> bytes | None:
        """Return what was released under a key, or None."""
        ...

    def require_room(self, class_name: ClassName, mu: float, *, most_mu: float) -> None:
        """Raise BudgetSpentError where `note_release` would, before costly work is done in vain."""
        ...

    def note_release(self, release: Release, *, most_mu: float) -> bytes:
        """Keep a release before anything of it leaves, and return its data, or those of the same key.

        Raises BudgetSpentError where all releases of the class together would cost more than `most_mu`.
        """
        ...


@dataclass(frozen=True, slots=True)
class Privacy:
    """How a teacher protects each sample of its data, and where it counts that."""

    budget: PrivacyBudget
    ledger: Ledger
