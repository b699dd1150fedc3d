"""Renews the certificate of a running daemon in good time, and says when that fails."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from qkt_node.enrollment import renew_home
from qkt_p2p.commands import command
from qkt_p2p.errors import QktError
from qkt_p2p.identity.renewal import renewal_due, renewal_time
from qkt_p2p.limits import EXPIRY_WARNING_SECONDS, RENEWAL_SECONDS

if TYPE_CHECKING:
    from qkt_node.home import Home
    from qkt_node.trust_keeper import TrustKeeper
    from qkt_p2p.identity.standing import Standing

log = structlog.get_logger(__name__)


class Renewing:
    """Asks the authority once two thirds of the certificate's life have passed, with growing pauses."""

    def __init__(
        self, home: Home, keeper: TrustKeeper, *, pauses: tuple[float, float] = RENEWAL_SECONDS
    ) -> None:
        self._home = home
        self._keeper = keeper
        self._first, self._longest = pauses

    async def run(self) -> None:
        """Renew for ever."""
        pause = self._first
        while True:
            if not renewal_due(self._keeper.standing.identity.facts, datetime.now(UTC)):
                pause = self._first
            elif await self._renew():
                # An authority whose certificates live for minutes must not be asked all the time.
                pause = self._first
            else:
                pause = min(2 * pause, self._longest)
            await asyncio.sleep(pause * random.uniform(0.75, 1.0))  # noqa: S311

    async def _renew(self) -> bool:
        try:
            member = await renew_home(self._home)
            await self._keeper.reload()
        except QktError as error:
            log.warning("renewal_failed", error=error.message, fix=error.fix)
            return False
        log.info("certificate_renewed", not_after=member.not_after.isoformat())
        return True


def warnings_of(standing: Standing, *, now: datetime | None = None) -> list[str]:
    """Return what the owner should look at: an expiry that comes near, a revocation; a sentence each.

    Certificates that live for days only are warned about from when they should have been renewed.
    """
    identity, time = standing.identity, now or datetime.now(UTC)
    if problem := standing.own_problem(time):
        return [f"{problem.message}. To mend it: {problem.fix}"]
    warned_from = identity.not_after - timedelta(seconds=EXPIRY_WARNING_SECONDS)
    if time < max(warned_from, renewal_time(identity.facts)):
        return []
    home, request = identity.files.directory.parent, identity.files.request
    renewing = command("renew", "--home", home)
    installing = command("join", "--certificate", "BUNDLE", "--home", home)
    return [
        f"this node's certificate expires at {identity.not_after:%Y-%m-%d %H:%M} UTC, "
        f"in {_span(identity.not_after - time)}: {renewing}, or have {request} signed "
        f"(qkt-node ca sign) and installed ({installing})"
    ]


def _span(left: timedelta) -> str:
    return f"{left.days} days" if left.days > 1 else f"{left.total_seconds() / 3600:.1f} hours"
