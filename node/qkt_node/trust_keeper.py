"""Keeps what a running daemon shows and believes up to date: identity/ on disk, lists that peers tell."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import structlog

from qkt_p2p.errors import QktError
from qkt_p2p.identity.revocation import parse_revocation_lists
from qkt_p2p.identity.revocations import Revocations, load_revocations, save_revocations
from qkt_p2p.identity.standing import Standing
from qkt_p2p.identity.trust import load_identity
from qkt_p2p.limits import REVOCATION_RETRY_SECONDS, TRUST_WATCH_SECONDS
from qkt_p2p.types import short

if TYPE_CHECKING:
    from pathlib import Path

    from qkt_p2p.transport.client import PeerClient
    from qkt_p2p.types import Heartbeat, PeerId

    Signature = tuple[tuple[int, int, int] | None, ...]

log = structlog.get_logger(__name__)


class TrustKeeper:
    """Holds a home's `standing`; raises like `load_identity` where there is none to begin with.

    Whatever is wrong with later files is logged, and what held before goes on to hold.
    """

    def __init__(self, directory: Path) -> None:
        identity = load_identity(directory)
        self.standing = Standing(identity, load_revocations(identity.files.revoked, identity.roots))
        self._directory = directory
        self._files = identity.files
        self._seen = self._signature()
        self._changing = asyncio.Lock()
        self._compared: WeakKeyDictionary[PeerClient, tuple[int, int, float]] = WeakKeyDictionary()

    @property
    def lists(self) -> bytes:
        """The revocation lists that this node tells its peers, PEM."""
        return self.standing.revocations.pem

    async def watch(self) -> None:
        """Read the files anew whenever they change, for ever."""
        while True:
            await asyncio.sleep(TRUST_WATCH_SECONDS)
            if self._signature() != self._seen:
                try:
                    await self.reload()
                except QktError as error:
                    log.error("trust_not_reloaded", error=error.message, fix=error.fix)

    async def reload(self) -> None:
        """Take over what the files hold now; raises ConfigError or NotTrustedError, and keeps what held.

        Lists come first: they hold also where this node's certificate is not usable any more.
        """
        async with self._changing:
            self._seen = self._signature()
            roots = self.standing.identity.roots
            found = await asyncio.to_thread(load_revocations, self._files.revoked, roots)
            await self._take(found.pem, roots, told_by="file")
            if self.standing.revocations != found:
                # Somebody put an older list there, which would hold after a restart.
                await self._save(self.standing.revocations)
            identity = await asyncio.to_thread(load_identity, self._directory)
            if identity != self.standing.identity:
                await self._take(b"", identity.roots, told_by="file")
                self.standing.show(identity)
                log.info("identity_changed", peer=identity.peer_id, not_after=identity.not_after.isoformat())

    async def hear(self, lists: bytes, *, teller: PeerId) -> None:
        """Take over what is newer in lists of a peer; raises NotTrustedError where they are malformed."""
        async with self._changing:
            await self._take(lists, self.standing.identity.roots, told_by=short(teller))

    async def compare(self, link: PeerClient, beat: Heartbeat) -> None:
        """Exchange lists with a peer whose beat tells of others than this node's."""
        own = self.standing.revocations.digest
        if beat.revocations == own:
            return
        now = time.monotonic()
        *before, at = self._compared.get(link, (own, own, now))
        # A peer with other authorities may never agree: that must not fill every beat.
        if before == [own, beat.revocations] and now - at < REVOCATION_RETRY_SECONDS:
            return
        self._compared[link] = (own, beat.revocations, now)
        told = await link.exchange_revocations(self.lists)
        await self.hear(told, teller=link.peer)

    async def _take(self, lists: bytes, roots: bytes, *, told_by: str) -> None:
        held = self.standing.revocations
        newest = await asyncio.to_thread(_newest, held, lists, roots)
        if newest == held:
            return
        await self._save(newest)
        self.standing.take(newest)
        revoked = [short(peer) for peer in sorted(self.standing.revoked())]
        log.warning("revocations_taken", told_by=told_by, revoked=revoked)

    async def _save(self, newest: Revocations) -> None:
        try:
            await asyncio.to_thread(save_revocations, self._files.revoked, newest)
        except QktError as error:
            # They hold all the same, until the daemon ends.
            log.error("revocations_not_saved", error=error.message, fix=error.fix)

    def _signature(self) -> Signature:
        files = self._files
        watched = (files.key, files.certificate, files.roots, files.revoked, files.next.certificate)
        return tuple(map(_state, watched))


def _newest(held: Revocations, told: bytes, roots: bytes) -> Revocations:
    """Return the newest lists in `held` and `told` (PEM) that are of authorities below `roots`."""
    lists = [
        each
        for pem in (held.pem, told)
        if pem
        for each in parse_revocation_lists(pem, roots, skip_unknown=True)
    ]
    return Revocations().merge(lists)


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
