"""What a node shows and whom it believes at this moment.

Servers and dialers ask here for every connection and every call, so that a new certificate, a new root
or a new revocation list holds at once and nothing has to be restarted.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from qkt_p2p.errors import NotTrustedError
from qkt_p2p.identity.revocations import Revocations
from qkt_p2p.identity.trust import JOINING_ANEW, rejoining
from qkt_p2p.limits import MAX_PEERS
from qkt_p2p.types import short

if TYPE_CHECKING:
    from collections.abc import Callable

    from qkt_p2p.identity.inspection import CertificateFacts
    from qkt_p2p.identity.trust import Identity
    from qkt_p2p.types import PeerId


class Standing:
    """One node's identity and revocation lists; both are values that are replaced whole.

    `clock` tells aware UTC times: certificates are bound to the calendar.
    """

    def __init__(
        self,
        identity: Identity,
        revocations: Revocations | None = None,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.identity = identity
        self.revocations = revocations or Revocations()
        self._clock = clock
        self._verified: OrderedDict[PeerId, CertificateFacts] = OrderedDict()
        self._watchers: list[Callable[[], None]] = []

    def watch(self, told: Callable[[], None]) -> None:
        """Have `told` called after every change."""
        self._watchers.append(told)

    def show(self, identity: Identity) -> None:
        """From now on show and trust what `identity` holds."""
        self.identity = identity
        self._tell()

    def take(self, revocations: Revocations) -> None:
        """From now on refuse whom these lists revoke."""
        self.revocations = revocations
        self._tell()

    def admit(self, facts: CertificateFacts) -> None:
        """Remember a member's certificate, whose chain TLS verified, or raise NotTrustedError.

        Checks its validity now, then what it must be as a member's, then revocation: a connection may
        be older than any of these reasons.
        """
        problem = self.problem(facts)
        if problem:
            raise NotTrustedError(problem)
        known = self._verified.pop(facts.peer_id, None)
        self._verified[facts.peer_id] = facts
        if len(self._verified) > MAX_PEERS:
            self._verified.popitem(last=False)
        if known is not None and known is not facts and self.revocations.revokes(known):
            # Whose certificate alone was revoked is back with another.
            self._tell()

    def require_own(self) -> None:
        """Raise the NotTrustedError that `own_problem` returns, where it returns one."""
        if problem := self.own_problem():
            raise problem

    def own_problem(self, now: datetime | None = None) -> NotTrustedError | None:
        """Return why no member takes this node's own certificate at this moment, and what its owner can do.

        Peers end the handshake without a word, so nobody but this node can tell.
        """
        own, now = self.identity.facts, now or self._clock()
        clock = f"now {now:%Y-%m-%d %H:%M} UTC by this machine's clock"
        if now < own.not_before:
            return NotTrustedError(
                f"this node's certificate is valid only from {own.not_before:%Y-%m-%d %H:%M} UTC on "
                f"({clock}): no member talks to it before",
                fix="check this machine's clock, and the authority's",
            )
        if now > own.not_after:
            return NotTrustedError(
                f"this node's certificate expired at {own.not_after:%Y-%m-%d %H:%M} UTC ({clock}): "
                "no member talks to it",
                fix=rejoining(self.identity.files),
            )
        if self.revocations.revokes(own):
            return NotTrustedError(
                "this node is revoked: no member talks to it",
                fix=JOINING_ANEW,
            )
        return None

    def problem(self, facts: CertificateFacts) -> str:
        """Return why a certificate is refused at this moment, "" where it is not."""
        now, peer = self._clock(), short(facts.peer_id)
        clock = f"now {now:%Y-%m-%d %H:%M} UTC by this node's clock"
        if now < facts.not_before:
            return (
                f"the certificate of peer {peer} is valid only from {facts.not_before:%Y-%m-%d %H:%M} UTC on "
                f"({clock}): check both machines' clocks"
            )
        if now > facts.not_after:
            return f"the certificate of peer {peer} expired at {facts.not_after:%Y-%m-%d %H:%M} UTC ({clock})"
        if facts.problems:
            return "; ".join(facts.problems)
        if facts.federation != self.identity.federation:
            return f"peer {peer} is a member of {facts.federation!r}, not of {self.identity.federation!r}"
        if self.revocations.revokes(facts):
            return f"peer {peer} is revoked: it is no longer a member of {self.identity.federation!r}"
        return ""

    def seconds_left(self, facts: CertificateFacts) -> float:
        """Return for how long a certificate is still valid; not above 0 where it is not."""
        return (facts.not_after - self._clock()).total_seconds()

    def certificate_of(self, peer: PeerId) -> CertificateFacts | None:
        """Return what the peer's certificate says that was verified last, None where none was."""
        return self._verified.get(peer)

    def revoked(self) -> frozenset[PeerId]:
        """Return every peer that is revoked by its id, or by the certificate that it showed here."""
        shown = (peer for peer, facts in self._verified.items() if self.revocations.revokes(facts))
        return self.revocations.peers | frozenset(shown)

    def _tell(self) -> None:
        for told in self._watchers:
            told()
