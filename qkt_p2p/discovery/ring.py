"""With whom a node keeps heartbeats: few peers each, and the federation is connected all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qkt_p2p.types import PeerId

FAN_OUT: Final = 12
"""Neighbours of a node; in federations of up to thirteen everybody is everybody's neighbour."""


def neighbours(own: PeerId, peers: Iterable[PeerId]) -> frozenset[PeerId]:
    """Return at most FAN_OUT peers: those 1, 2, 4, ... places away from `own` on the ring of sorted ids.

    Nodes with the same view choose each other, and news crosses n nodes in about log2(n) steps, as in
    Chord (Stoica et al., SIGCOMM 2001). Ids are hashes, so nobody can choose a place with less work
    than making keys.
    """
    ring = sorted({*peers, own})
    if len(ring) <= FAN_OUT + 1:
        return frozenset(ring) - {own}
    place = ring.index(own)
    chosen: list[PeerId] = []
    distance = 1
    while len(chosen) < FAN_OUT and distance <= len(ring) // 2:
        for step in (distance, -distance):
            peer = ring[(place + step) % len(ring)]
            if peer not in chosen:
                chosen.append(peer)
        distance *= 2
    return frozenset(chosen[:FAN_OUT])
