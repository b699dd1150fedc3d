"""With whom a node keeps heartbeats."""

from __future__ import annotations

import hashlib
from base64 import b32encode

from hypothesis import given
from hypothesis import strategies as st

from qkt_p2p.discovery.ring import FAN_OUT, neighbours
from qkt_p2p.types import PeerId


def peers(count: int) -> list[PeerId]:
    digests = (hashlib.sha256(str(number).encode()).digest() for number in range(count))
    return [PeerId(b32encode(digest).decode().lower().rstrip("=")) for digest in digests]


@given(st.integers(2, 120))
def test_neighbours_are_few_choose_each_other_and_connect_all(count: int) -> None:
    """Whatever the federation's size: bounded, symmetric, and nobody is cut off."""
    everybody = peers(count)
    chosen = {peer: neighbours(peer, everybody) for peer in everybody}
    assert all(len(found) <= FAN_OUT and peer not in found for peer, found in chosen.items())
    assert all(peer in chosen[other] for peer, found in chosen.items() for other in found)
    reached = {everybody[0]}
    while new := {other for peer in reached for other in chosen[peer]} - reached:
        reached |= new
    assert len(reached) == count


def test_in_a_small_federation_everybody_is_a_neighbour() -> None:
    """Up to FAN_OUT others are all kept."""
    own, *others = peers(FAN_OUT + 1)
    assert neighbours(own, others) == set(others)


def test_news_crosses_two_hundred_nodes_in_few_steps() -> None:
    """Distances double, so the steps grow with the logarithm."""
    everybody = peers(200)
    reached, steps = {everybody[0]}, 0
    while len(reached) < 200:
        reached |= {other for peer in reached for other in neighbours(peer, everybody)}
        steps += 1
    assert steps <= 6
