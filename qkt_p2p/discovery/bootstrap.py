"""Bootstrap addresses: each names a machine, and whoever answers there is followed as a peer."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from qkt_p2p.discovery.pace import Pauses
from qkt_p2p.errors import PEER_FAILURES

if TYPE_CHECKING:
    from collections.abc import Callable

    from qkt_p2p.discovery.links import Dialer, Link
    from qkt_p2p.discovery.pace import Pace
    from qkt_p2p.types import PeerId

log = structlog.get_logger(__name__)


async def follow_address(
    address: str,
    dialer: Dialer[Link],
    pace: Pace,
    *,
    found: Callable[[PeerId, str], bool],
    known: Callable[[str], bool],
    noted: Callable[[str, str], None],
    hurry: asyncio.Event,
) -> None:
    """Find out again and again who answers at `address`, resolved anew each time, unless it is `known`.

    `found` is told the peer and the address, and returns False where that is this node itself: then
    nothing is left to do. `noted` is told the address and why nobody answers, "" where somebody does. Setting
    `hurry` ends a pause.
    """
    pauses = Pauses(pace)
    while True:
        pause = pace.redial[1]
        if not known(address):
            try:
                peer = await dialer.identify(address)
            except PEER_FAILURES as error:
                noted(address, error.message)
                pauses.log("bootstrap_unreachable", address, error)
                pause = pauses.next()
            else:
                noted(address, "")
                if not found(peer, address):
                    log.debug("bootstrap_is_this_node", address=address)
                    return
                pauses.reset()
        hurry.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await hurry.wait()
