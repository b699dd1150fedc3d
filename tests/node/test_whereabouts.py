"""What a running node tells of where it is, while its machine's networks come, go and change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from structlog.testing import capture_logs

from qkt_bench.network.virtual_time import run_in_virtual_time
from qkt_node.announcing import Announcing
from qkt_node.profile import Profile
from qkt_node.settings import NodeConfig, NodeSection
from qkt_node.whereabouts import Whereabouts
from qkt_p2p.discovery import mdns
from qkt_p2p.identity.trust import Identity
from qkt_p2p.limits import NETWORK_LOOK_SECONDS
from tests.node.machine import Machine

Step = Callable[[], object]


@dataclass
class Node:
    """What follows a machine's networks, with a publisher that records; `failures` are still to come."""

    identity: Identity
    listen: str = "0.0.0.0:7447"
    port: int | None = 7447
    profile: Profile = field(default_factory=lambda: Profile("own"))
    published: list[tuple[str, ...]] = field(default_factory=list)
    peers: list[str] = field(default_factory=list)
    failures: int = 0
    moves: int = 0

    async def publish(self, identity: Identity, addresses: Sequence[str]) -> bool:
        """Record, and fail as often as the test wants."""
        self.peers.append(identity.peer_id)
        self.published.append(tuple(addresses))
        self.failures -= 1
        return self.failures < 0

    def _moved(self) -> None:
        self.moves += 1

    def _nothing(self) -> None:
        pass

    def live(self, *steps: Step) -> None:
        """Start, and take each step after some looks at what the one before it brought; then some more."""

        async def living() -> None:
            whereabouts = Whereabouts(
                NodeConfig(node=NodeSection(listen=self.listen)),
                self.profile,
                identity=lambda: self.identity,
                publisher=self,
                moved=self._moved,
            )
            if self.port is not None:
                whereabouts.start(self.port)
            following = asyncio.create_task(whereabouts.follow())
            for step in (*steps, self._nothing):
                await asyncio.sleep(3.5 * NETWORK_LOOK_SECONDS)
                step()
            following.cancel()

        run_in_virtual_time(living())


@pytest.fixture
def node(members: dict[str, Identity], machine: Machine) -> Node:
    machine.has("lo", "127.0.0.1")
    return Node(members["own"])


def test_a_network_that_comes_late_is_told_of(node: Node, machine: Machine) -> None:
    """A node that started without one is published in it, once, and dials anew; its warning is gone."""
    warnings: list[str] = []

    def plug_in() -> None:
        warnings.extend(node.profile.warnings)
        machine.has("eth0", "10.0.0.4")

    node.live(plug_in)
    assert node.published == [("127.0.0.1:7447",), ("10.0.0.4:7447",)]
    assert node.profile.addresses == node.profile.describe().addresses == ("10.0.0.4:7447",)
    assert len(warnings) == 1
    assert node.profile.warnings == ()
    assert node.moves == 1


def test_an_address_that_changes_is_told_of(node: Node, machine: Machine) -> None:
    """In the profile, on the network and in the log."""
    machine.has("eth0", "10.0.0.2")
    with capture_logs() as logged:
        node.live(lambda: machine.has("eth0", "10.0.0.77"))
    assert node.published == [("10.0.0.2:7447",), ("10.0.0.77:7447",)]
    assert node.profile.addresses == ("10.0.0.77:7447",)
    assert [(entry["before"], entry["addresses"]) for entry in logged] == [
        (("10.0.0.2:7447",), ("10.0.0.77:7447",))
    ]


def test_a_network_that_was_away_is_told_again(node: Node, machine: Machine) -> None:
    """What was sent before the cable was plugged in, nobody heard, though the address was there all along."""
    machine.has("eth0", "10.0.0.2", cable=False)
    node.live(lambda: machine.has("eth0", "10.0.0.2"))
    assert node.published == [("10.0.0.2:7447",)] * 2
    assert node.moves == 1


def test_multicast_is_tried_again(node: Node) -> None:
    """Where it is unavailable, at every look until it is there, and then no more."""
    node.failures = 2
    node.live()
    assert len(node.published) == 3


def test_a_new_key_is_published(node: Node, members: dict[str, Identity]) -> None:
    """The node is another peer from then on."""
    before = node.identity.peer_id
    node.live(lambda: setattr(node, "identity", members["ward"]))
    assert node.peers == [before, members["ward"].peer_id]


def test_a_node_that_only_calls_out_listens_to_new_networks(node: Node, machine: Machine) -> None:
    """It has no address to tell, and yet wants to hear of others there."""
    node.port = None
    node.live(lambda: machine.has("eth0", "10.0.0.4"))
    assert node.published == [(), ()]
    assert node.profile.addresses == ()


def test_a_loopback_listener_stays_there(node: Node, machine: Machine) -> None:
    """Networks are nothing to it."""
    node.listen = "127.0.0.1:7447"
    node.live(lambda: machine.has("eth0", "10.0.0.4"))
    assert node.published == [("127.0.0.1:7447",)]
    assert node.moves == 0


async def test_why_there_is_no_multicast_is_said_once(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it is tried."""

    def unavailable(interfaces: list[str]) -> None:
        raise OSError("No such device")

    monkeypatch.setattr(mdns, "_open", unavailable)
    announcing = Announcing(lambda peer, addresses: None)
    with capture_logs() as logged:
        assert not await announcing.publish(node.identity, ["10.0.0.4:7447"])
        assert not await announcing.publish(node.identity, ["10.0.0.4:7447"])
    assert [(entry["event"], entry["error"]) for entry in logged] == [("mdns_unavailable", "No such device")]
