"""This node on its local network, by mDNS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qkt_p2p.discovery.mdns import Mdns
    from qkt_p2p.identity.trust import Identity
    from qkt_p2p.types import PeerId

log = structlog.get_logger(__name__)


class Announcing:
    """Publishes who this node is and where; `on_hint` is told of others. No `interfaces`: all."""

    def __init__(
        self, on_hint: Callable[[PeerId, Sequence[str]], None], *, interfaces: Sequence[str] = ()
    ) -> None:
        self._on_hint = on_hint
        self._interfaces = interfaces
        self._mdns: Mdns | None = None
        self._problem = ""

    async def publish(self, identity: Identity, addresses: Sequence[str]) -> bool:
        """Be found as `identity`, on the networks of now, and no longer as whom was published before.

        Returns False where there is no multicast, which is logged once and may be tried again.
        """
        # Imported here: zeroconf's memory is only worth it where multicast is wanted.
        from qkt_p2p.discovery.mdns import Mdns  # noqa: PLC0415

        await self.stop()
        self._mdns = Mdns(
            identity.peer_id, identity.federation, on_hint=self._on_hint, interfaces=self._interfaces
        )
        before, self._problem = self._problem, await self._mdns.start(addresses)
        if self._problem and self._problem != before:
            fix = "set [discovery] bootstrap in node.toml"
            log.warning("mdns_unavailable", error=self._problem, fix=fix)
        return not self._problem

    async def stop(self) -> None:
        """Say goodbye; idempotent."""
        mdns, self._mdns = self._mdns, None
        if mdns is not None:
            await mdns.stop()
