"""A federation in memory: real contacts, memberships, clients and codecs, and a count of what they send."""

from __future__ import annotations

import asyncio
import hashlib
from base64 import b32encode
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from qkt_p2p.discovery import Contacts, FoundBy, Membership
from qkt_p2p.errors import PeerRefusedError, PeerUnavailableError
from qkt_p2p.limits import CALL_SECONDS, KEEPALIVE_SECONDS
from qkt_p2p.transport.client import PeerClient
from qkt_p2p.transport.memory import MemoryLine, MemoryNetwork
from qkt_p2p.types import ClassName, Heartbeat, NodeDescription, PeerId

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from qkt_p2p.types import PeerAddress, ProbeReport, ProbeRequest, TeachPart, TeachRequest

BOOTSTRAP_NODES: Final = 2
"""Nodes whose address everybody has, as from an invitation."""

CLASSES: Final = tuple(ClassName(str(number)) for number in range(10))


@dataclass(slots=True)
class Tally:
    """What one node sent and received, requests and answers alike."""

    messages: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    dials: int = 0

    def add(self, call: str, request: int, answer: int) -> None:
        """Count one call and its answer, sizes in bytes."""
        self.messages[call] += 2
        self.bytes += request + answer

    def reset(self) -> None:
        """Count anew."""
        self.messages.clear()
        self.bytes = self.dials = 0


class _CountedLine(MemoryLine):
    def __init__(self, town: Town, caller: PeerId, peer: PeerId, address: str) -> None:
        super().__init__(town.network, caller, peer)
        self.address = address
        self._tallies = town.tallies[caller], town.tallies[peer]
        self._town, self._ends = town, (caller, peer)

    async def ask(self, path: str, request: bytes, *, seconds: float) -> bytes:
        if self._town.parted(*self._ends):
            await asyncio.sleep(min(seconds, sum(KEEPALIVE_SECONDS)))
            raise PeerUnavailableError("no answer")
        answer = await super().ask(path, request, seconds=seconds)
        for tally in self._tallies:
            tally.add(path.rpartition("/")[2], len(request), len(answer))
        return answer


class _Dialer:
    def __init__(self, town: Town, own: PeerId) -> None:
        self._town, self._own = town, own

    async def identify(self, address: str) -> PeerId:
        peer = self._town.peers[address]
        if self._town.parted(self._own, peer):
            await asyncio.sleep(CALL_SECONDS)
            raise PeerUnavailableError(f"{address}: no answer")
        return peer

    def connect(self, peer: PeerId, address: str) -> PeerClient:
        self._town.tallies[self._own].dials += 1
        return PeerClient(peer, _CountedLine(self._town, self._own, peer, address))


class _Node:
    """Answers the calls of membership as a daemon does."""

    def __init__(self, town: Town, number: int) -> None:
        self.name = f"hospital-{number}"
        self.peer = PeerId(b32encode(hashlib.sha256(self.name.encode()).digest()).decode().lower()[:52])
        self.address = f"10.0.{number // 250}.{number % 250 + 1}:7447"
        self.membership = Membership(asyncio.get_running_loop().time)
        self.contacts = Contacts(
            self.peer,
            _Dialer(town, self.peer),
            membership=self.membership,
            describe=self._describe,
            beat=lambda: Heartbeat(draining=False, model_version=1),
        )

    def live(self) -> int:
        return len(self.membership.live())

    async def hello(self, caller: PeerId, node: NodeDescription) -> NodeDescription:
        self.membership.introduce(caller, node, address="", found_by=FoundBy.INBOUND)
        self.contacts.hint(caller, node.addresses, FoundBy.INBOUND)
        return self._describe()

    async def heartbeat(self, caller: PeerId, beat: Heartbeat) -> Heartbeat:
        self.membership.hear(caller, draining=beat.draining)
        return Heartbeat(draining=False, model_version=1)

    async def exchange_peers(self, caller: PeerId, peers: tuple[PeerAddress, ...]) -> tuple[PeerAddress, ...]:
        self.contacts.take(peers)
        return tuple(self.contacts.tell(caller))

    async def exchange_revocations(self, caller: PeerId, lists: bytes) -> bytes:
        return lists

    async def probe(self, caller: PeerId, request: ProbeRequest) -> ProbeReport:
        raise PeerRefusedError("nobody learns here")

    async def teach(self, caller: PeerId, request: TeachRequest) -> AsyncGenerator[TeachPart]:
        raise PeerRefusedError("nobody learns here")
        yield

    def _describe(self) -> NodeDescription:
        return NodeDescription(1, self.name, "0.1.0", CLASSES, ("moments",), (self.address,), 1)


class Town:
    """A federation in memory; a partition lies between the nodes in `cut_off` and all others."""

    def __init__(self, size: int) -> None:
        self.network = MemoryNetwork()
        self.nodes = [_Node(self, number) for number in range(size)]
        self.peers = {node.address: node.peer for node in self.nodes}
        self.tallies = {node.peer: Tally() for node in self.nodes}
        self.cut_off: set[PeerId] = set()

    def start(self) -> None:
        """Start all nodes at once."""
        for node in self.nodes:
            self.network.serve(node.peer, node)
        for node in self.nodes:
            node.contacts.start([each.address for each in self.nodes[:BOOTSTRAP_NODES]])

    def all_know_all(self) -> bool:
        """Tell whether every node sees every other live."""
        return all(node.live() == len(self.nodes) - 1 for node in self.nodes)

    def parted(self, one: PeerId, other: PeerId) -> bool:
        """Tell whether a partition lies between two nodes."""
        return (one in self.cut_off) != (other in self.cut_off)

    async def kill(self, node: _Node) -> None:
        """End a node without a word to others."""
        self.nodes.remove(node)
        self.network.remove(node.peer)
        await node.contacts.stop()

    async def stop(self) -> None:
        """Stop all nodes."""
        for node in self.nodes:
            await node.contacts.stop()
