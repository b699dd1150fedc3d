"""Peers on the local network by mDNS (RFC 6762) and DNS-SD (RFC 6763).

A record is a hint of where to dial and nothing more: it is not authenticated, and after a crash
it lingers for minutes. Identity comes from TLS, liveness from heartbeats.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
from typing import TYPE_CHECKING, Final

import structlog
from zeroconf import Error as ZeroconfError
from zeroconf import IPVersion, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from qkt_p2p.errors import UsageError
from qkt_p2p.limits import MAX_ADDRESSES, MAX_MDNS_RESOLVING, MAX_MDNS_WAITING, MDNS_RESOLVE_SECONDS
from qkt_p2p.types import PeerId, parse_peer_id, short

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

log = structlog.get_logger(__name__)

SERVICE_TYPE: Final = "_qkt._tcp.local."
"""Service type of every node; the federation and the peer id stand in the TXT record."""

_PEER_KEY: Final = "peer"
_FEDERATION_KEY: Final = "fed"


class Mdns:
    """Publishes this node and tells of others of its federation; `stop` says goodbye.

    `on_hint` gets a peer id and its addresses, on the loop that started this.
    """

    def __init__(
        self,
        peer: PeerId,
        federation: str,
        *,
        on_hint: Callable[[PeerId, tuple[str, ...]], None],
        interfaces: Sequence[str] = (),
    ) -> None:
        self._peer = peer
        self._federation = federation
        self._on_hint = on_hint
        self._interfaces = list(interfaces)
        self._zeroconf: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._resolving: set[asyncio.Task[None]] = set()
        self._turns = asyncio.Semaphore(MAX_MDNS_RESOLVING)

    async def start(self, addresses: Sequence[str]) -> str:
        """Publish `addresses` ("ip:port") and begin to listen; returns why this is impossible, or ""."""
        try:
            self._zeroconf = _open(self._interfaces)
            info = self._service_info(addresses)
            if info is not None:
                await self._zeroconf.async_register_service(info)
            self._browser = AsyncServiceBrowser(
                self._zeroconf.zeroconf, SERVICE_TYPE, handlers=[self._changed]
            )
        except (OSError, ZeroconfError, RuntimeError) as error:
            # RuntimeError: zeroconf finds no interface at all.
            await self.stop()
            return str(error) or type(error).__name__
        return ""

    async def stop(self) -> None:
        """Say goodbye and close; idempotent."""
        zeroconf, self._zeroconf = self._zeroconf, None
        browser, self._browser = self._browser, None
        for task in self._resolving:
            task.cancel()
        if browser is not None:
            await browser.async_cancel()
        if zeroconf is not None:
            await zeroconf.async_unregister_all_services()
            await zeroconf.async_close()

    def _service_info(self, addresses: Sequence[str]) -> AsyncServiceInfo | None:
        """Return the record of this node; None where no address is numeric."""
        numeric = [split for split in map(_numeric, addresses) if split is not None]
        if not numeric:
            return None
        port = numeric[0][1]
        return AsyncServiceInfo(
            SERVICE_TYPE,
            # A DNS label has at most 63 bytes; peer ids have 52.
            f"{self._peer}.{SERVICE_TYPE}",
            port=port,
            parsed_addresses=[str(host) for host, its_port in numeric if its_port == port],
            properties={_PEER_KEY: self._peer, _FEDERATION_KEY: federation_tag(self._federation)},
            server=f"{self._peer}.local.",
        )

    def _changed(
        self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
    ) -> None:
        if state_change is ServiceStateChange.Removed or name.startswith(self._peer):
            return
        if len(self._resolving) >= MAX_MDNS_WAITING:
            log.warning("mdns_flood", waiting=len(self._resolving))
            return
        task = asyncio.get_running_loop().create_task(self._resolve(zeroconf, service_type, name))
        self._resolving.add(task)
        task.add_done_callback(self._resolving.discard)

    async def _resolve(self, zeroconf: Zeroconf, service_type: str, name: str) -> None:
        info = service_named(name, service_type)
        if info is None:
            return
        async with self._turns:
            if not await info.async_request(zeroconf, MDNS_RESOLVE_SECONDS * 1000):
                return
        hint = hint_in(info, self._federation)
        if hint is not None and hint[0] != self._peer:
            log.debug("mdns_hint", peer=short(hint[0]), addresses=hint[1])
            self._on_hint(*hint)


def service_named(name: str, service_type: str = SERVICE_TYPE) -> AsyncServiceInfo | None:
    """Return a service that is not resolved yet, None where a record points to what is no name of one."""
    try:
        return AsyncServiceInfo(service_type, name)
    except ZeroconfError as error:
        log.debug("mdns_ignored", name=name[:80], reason=repr(error))
        return None


def hint_in(info: AsyncServiceInfo, federation: str) -> tuple[PeerId, tuple[str, ...]] | None:
    """Return whom a record is about and its addresses, None where it is no node's of the federation."""
    peer = _peer(info)
    if peer is None or not info.port:
        return None
    if info.decoded_properties.get(_FEDERATION_KEY) != federation_tag(federation):
        log.debug("mdns_ignored", peer=short(peer), reason="another federation")
        return None
    return peer, _addresses(info)


def federation_tag(federation: str) -> str:
    """Return what stands for a federation in the clear on the local network: a short digest of its name."""
    return hashlib.sha256(federation.encode()).hexdigest()[:16]


def _open(interfaces: list[str]) -> AsyncZeroconf:
    """Join the multicast groups of `interfaces`, or of all with IPv4 and IPv6."""
    if interfaces:
        return AsyncZeroconf(interfaces=interfaces)
    try:
        return AsyncZeroconf(ip_version=IPVersion.All)
    except OSError:
        # A kernel without IPv6 has no socket for both.
        return AsyncZeroconf(ip_version=IPVersion.V4Only)


def _peer(info: AsyncServiceInfo) -> PeerId | None:
    """Return whom a record is about, None where it names no peer."""
    try:
        return parse_peer_id(info.decoded_properties.get(_PEER_KEY) or "")
    except UsageError:
        return None


def _addresses(info: AsyncServiceInfo) -> tuple[str, ...]:
    hosts = info.parsed_addresses(IPVersion.All)[:MAX_ADDRESSES]
    return tuple(f"[{host}]:{info.port}" if ":" in host else f"{host}:{info.port}" for host in hosts)


def _numeric(address: str) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int] | None:
    host, _, port = address.rpartition(":")
    try:
        return ipaddress.ip_address(host.strip("[]")), int(port)
    except ValueError:
        return None
