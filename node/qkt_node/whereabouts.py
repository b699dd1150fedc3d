"""Where this node is, told to others for as long as it runs: networks come late, and addresses change."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

import structlog

from qkt_node.addresses import announced, dialing_problems, networks
from qkt_p2p.limits import NETWORK_LOOK_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qkt_node.profile import Profile
    from qkt_node.settings import NodeConfig
    from qkt_p2p.identity.trust import Identity

log = structlog.get_logger(__name__)


class Publisher(Protocol):
    """What makes a node known on its local network."""

    async def publish(self, identity: Identity, addresses: Sequence[str]) -> bool:
        """Be found as `identity` and no longer as before; returns False where that is impossible now."""
        ...


class Whereabouts:
    """Keeps up what the profile, and so every hello, and the local network say of where this node is.

    `moved` is told that this machine's networks are others than they were.
    """

    def __init__(
        self,
        config: NodeConfig,
        profile: Profile,
        *,
        identity: Callable[[], Identity],
        publisher: Publisher | None,
        moved: Callable[[], None],
    ) -> None:
        self._config = config
        self._profile = profile
        self._identity = identity
        self._publisher = publisher
        self._moved = moved
        self._port: int | None = None
        self._networks: frozenset[str] | None = None
        # As whom, at which addresses and in which networks this node is published.
        self._published: tuple[object, ...] | None = None

    def start(self, port: int) -> None:
        """Have the profile say that this node answers at `port`; one that only calls out does not."""
        self._port = port
        self._tell(announced(self._config, port))

    async def follow(self) -> None:
        """Look again every few seconds, for ever."""
        while True:
            await self.look()
            await asyncio.sleep(NETWORK_LOOK_SECONDS)

    async def look(self) -> None:
        """Compare what is told with what is so by now, and tell others where these differ."""
        found = networks(self._config.node.listen)
        before, self._networks = self._networks, found
        addresses = () if self._port is None else announced(self._config, self._port)
        if addresses != (told := self._profile.addresses):
            log.info("addresses_changed", addresses=addresses, before=told)
            self._tell(addresses)
        if before not in (None, found):
            self._moved()
        if self._publisher is None:
            return
        identity = self._identity()
        current = (identity.peer_id, addresses, found)
        if current != self._published:
            self._published = current if await self._publisher.publish(identity, addresses) else None

    def _tell(self, addresses: tuple[str, ...]) -> None:
        """Have the profile say where this node is; peers hear of it with their next beats."""
        self._profile.addresses = addresses
        self._profile.warnings = tuple(dialing_problems(self._config))
