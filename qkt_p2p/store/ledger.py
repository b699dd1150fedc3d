"""The ledger of what was released of this node's data, and whom it taught; nothing of it is ever evicted."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from qkt_p2p.errors import BudgetSpentError
from qkt_p2p.privacy.accountant import fits
from qkt_p2p.privacy.ledger import Disclosure
from qkt_p2p.store.database import Database

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qkt_p2p.privacy.ledger import Release
    from qkt_p2p.types import ClassName, PeerId, TeachOffer


class Releases(Database):
    """The journal's tables of releases and disclosures; a Ledger."""

    def released(self, key: str) -> bytes | None:
        """Return what was released under a key, or None."""
        row = self._row("SELECT data FROM releases WHERE key = ?", (key,))
        return None if row is None else bytes(row[0])

    def require_room(self, class_name: ClassName, mu: float, *, most_mu: float) -> None:
        """Raise BudgetSpentError where a class with one more release would cost more than `most_mu`."""
        spent = self._rows("SELECT mu FROM releases WHERE class = ?", (class_name,))
        if not fits([mu, *(each for (each,) in spent)], most_mu):
            raise BudgetSpentError(f"the privacy budget of {class_name} is spent")

    def note_release(self, release: Release, *, most_mu: float) -> bytes:
        """Keep a release, and return its data, or those of the same key that were there.

        What the class has cost is looked up and added to in one transaction. Raises BudgetSpentError where
        all of it together would be more than `most_mu`.
        """
        with self._durable_transaction() as connection:
            kept = self.released(release.key)
            if kept is not None:
                return kept
            self.require_room(release.class_name, release.mu, most_mu=most_mu)
            connection.execute(
                "INSERT INTO releases (key, class, space, mu, released_at, data) VALUES (?, ?, ?, ?, ?, ?)",
                (*(release.key, release.class_name, release.space, release.mu), time.time(), release.data),
            )
        return release.data

    def spent(self) -> dict[ClassName, list[float]]:
        """Return the mu of every release, by class in the order of their first ones."""
        found: dict[ClassName, list[float]] = {}
        for name, mu in self._rows("SELECT class, mu FROM releases ORDER BY rowid"):
            found.setdefault(name, []).append(mu)
        return found

    def note_disclosure(self, peer: PeerId, offer: TeachOffer) -> None:
        """Count that a peer is about to be sent what `offer` says."""
        now = time.time()
        with self._transaction() as connection:
            connection.executemany(
                "INSERT INTO disclosures (peer, class, medium, epsilon, delta, times, first_at, last_at)"
                " VALUES (?, ?, ?, ?, ?, 1, ?, ?) ON CONFLICT DO UPDATE"
                " SET times = times + 1, last_at = excluded.last_at",
                [(peer, name, offer.medium, offer.epsilon, offer.delta, now, now) for name in offer.classes],
            )

    def disclosures(self) -> Sequence[Disclosure]:
        """Return whom this node taught what, the latest first."""
        rows = self._rows(
            "SELECT peer, class, medium, epsilon, delta, times, first_at, last_at FROM disclosures"
            " ORDER BY last_at DESC, peer, class"
        )
        return [Disclosure(*row) for row in rows]
