"""Nodes that find each other in memory, and a record of what they do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

from qkt_p2p.discovery import Contacts, FoundBy, Membership, Pace
from qkt_p2p.errors import PeerRefusedError, PeerUnavailableError
from qkt_p2p.transport.client import PeerClient
from qkt_p2p.transport.memory import MemoryLine, MemoryNetwork
from qkt_p2p.types import (
    Heartbeat,
    NodeDescription,
    PeerAddress,
    PeerId,
    ProbeReport,
    ProbeRequest,
    TeachPart,
    TeachRequest,
)
from tests.patience import patience

QUICK = Pace(heartbeat=0.002, redial=(0.001, 0.004), exchange_every_beats=2, goodbye=0.05)
PATIENT = Pace(heartbeat=0.002, redial=(1000.0, 1000.0), exchange_every_beats=2, goodbye=0.05)
"""Whoever fails to answer is dialed again only after a hint."""


def peer_id(name: str) -> PeerId:
    return PeerId(name.ljust(52, "a"))


@dataclass
class Town:
    """A network in memory; `events` holds who did what to whom, and `until` waits for more of them."""

    network: MemoryNetwork = field(default_factory=MemoryNetwork)
    addresses: dict[str, PeerId] = field(default_factory=dict)
    failures: dict[str, BaseException] = field(default_factory=dict)
    events: list[tuple[str, str, str]] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    _happened: asyncio.Event = field(default_factory=asyncio.Event)

    def node(self, name: str, pace: Pace = QUICK) -> Node:
        self.nodes.append(Node(self, name, pace))
        return self.nodes[-1]

    def note(self, who: str, did: str, what: str = "") -> None:
        self.events.append((who, did, what))
        self._happened.set()

    def count(self, *event: str) -> int:
        return sum(each[: len(event)] == event for each in self.events)

    async def until(self, condition: Callable[[], object]) -> None:
        """Return when a condition holds that changes by what is noted."""
        async with patience("what is noted makes the condition hold"):
            while not condition():
                self._happened.clear()
                await self._happened.wait()


class Node:
    """One node: it answers as a daemon does, and its contacts dial as a daemon's do."""

    def __init__(self, town: Town, name: str, pace: Pace) -> None:
        self.name, self.peer, self.address = name, peer_id(name), f"{name}:7448"
        self.draining = False
        self.version = 1
        self.announced: tuple[str, ...] = (self.address,)
        self.membership = Membership()
        self.contacts: Contacts[PeerClient] = Contacts(
            self.peer,
            _Dialer(town, name),
            membership=self.membership,
            describe=self.describe,
            beat=lambda: Heartbeat(self.draining, self.version),
            pace=pace,
        )
        self._town = town

    def serve(self) -> None:
        self._town.network.serve(self.peer, self)
        self._town.addresses[self.address] = self.peer

    async def gathered(self, seconds: float) -> list[str]:
        """Return whom a query would ask."""
        async with self.contacts.gathered(seconds) as found:
            return [member.description.node_name for member, _ in found.reached]

    async def missed(self, seconds: float) -> dict[str, str]:
        """Return why a query would not ask other live peers."""
        async with self.contacts.gathered(seconds) as found:
            return {member.description.node_name: reason for member, reason in found.missed}

    def vanish(self) -> None:
        self._town.network.remove(self.peer)

    def describe(self) -> NodeDescription:
        return NodeDescription(1, self.name, "1", (), (), self.announced, self.version)

    def found(self) -> dict[str, FoundBy]:
        return {member.description.node_name: member.found_by for member in self.membership.live()}

    def linked(self) -> list[str]:
        return [member.description.node_name for member, _ in self.contacts.reachable()]

    async def hello(self, caller: PeerId, node: NodeDescription) -> NodeDescription:
        self.membership.introduce(caller, node, address="", found_by=FoundBy.INBOUND)
        self.contacts.hint(caller, node.addresses, FoundBy.INBOUND)
        self._town.note(self.name, "greeted by", node.node_name)
        return self.describe()

    async def heartbeat(self, caller: PeerId, beat: Heartbeat) -> Heartbeat:
        if self.membership.known_version(caller) is None:
            raise PeerRefusedError("say hello first")
        self.membership.hear(caller, draining=beat.draining)
        self._town.note(self.name, "draining peer" if beat.draining else "beat", caller)
        return Heartbeat(self.draining, self.version)

    async def exchange_peers(self, caller: PeerId, peers: tuple[PeerAddress, ...]) -> tuple[PeerAddress, ...]:
        self.contacts.take(peers)
        for told in peers:
            self._town.note(self.name, "told of", told.peer)
        return tuple(self.contacts.tell(caller))

    async def exchange_revocations(self, caller: PeerId, lists: bytes) -> bytes:
        raise PeerUnavailableError("nobody is revoked here")

    async def probe(self, caller: PeerId, request: ProbeRequest) -> ProbeReport:
        raise PeerUnavailableError("nobody learns here")

    async def teach(self, caller: PeerId, request: TeachRequest) -> AsyncGenerator[TeachPart]:
        raise PeerUnavailableError("nobody learns here")
        yield


class _Link(PeerClient):
    """A client that is seen to be closed."""

    def __init__(self, town: Town, caller: str, peer: PeerId, address: str) -> None:
        nobody = peer_id("nobody")
        line = MemoryLine(
            town.network, peer_id(caller), peer if town.addresses.get(address) == peer else nobody
        )
        line.address = address
        super().__init__(peer, line)
        self._town, self._caller = town, caller

    async def close(self) -> None:
        await super().close()
        self._town.note(self._caller, "closed", self.address)


class _Dialer:
    def __init__(self, town: Town, caller: str) -> None:
        self._town, self._caller = town, caller

    async def identify(self, address: str) -> PeerId:
        self._town.note(self._caller, "identified", address)
        self._fail(address)
        if address not in self._town.addresses:
            raise PeerUnavailableError(f"{address}: nobody is there")
        return self._town.addresses[address]

    def connect(self, peer: PeerId, address: str) -> _Link:
        self._town.note(self._caller, "dialed", address)
        self._fail(address)
        return _Link(self._town, self._caller, peer, address)

    def _fail(self, address: str) -> None:
        if address in self._town.failures:
            raise self._town.failures[address]
