"""The peers that a node follows: where each might be dialed, and which of them are needed now."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from qkt_p2p.discovery.ring import neighbours
from qkt_p2p.limits import MAX_ADDRESSES, MAX_FAILURE_CHARACTERS, MAX_FAILURES_TOLD

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from qkt_p2p.discovery.member import FoundBy
    from qkt_p2p.types import NodeDescription, PeerId

FAILING_ROUNDS: Final = 2
"""A peer that did not answer this often in a row makes room for another neighbour."""


@dataclass(slots=True)
class Contact:
    """Where a followed peer might be dialed, most promising first, and who needs it."""

    peer: PeerId
    found_by: FoundBy
    addresses: list[str] = field(default_factory=list)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    tried: bool = False
    met: bool = False
    failures: int = 0
    # Why the last attempt failed, "" after a success.
    failure: str = ""
    borrowers: int = 0
    # What this node said of itself in its last hello to the peer.
    told: NodeDescription | None = None
    task: asyncio.Task[None] | None = None
    # As whom this node is connected, and whether it shows something else by now.
    connected_as: PeerId | None = None
    outdated: bool = False

    def learn(self, addresses: Iterable[str], *, preferred: bool) -> None:
        """Take in addresses, before or behind those known already."""
        ordered = [*addresses, *self.addresses] if preferred else [*self.addresses, *addresses]
        self.addresses = list(dict.fromkeys(ordered))[:MAX_ADDRESSES]


class ContactBook:
    """The contacts of one node, and its neighbours on the rings of all and of those that answer."""

    def __init__(self, own: PeerId) -> None:
        self.own = own
        self._contacts: dict[PeerId, Contact] = {}
        self._failed_addresses: dict[str, str] = {}
        # Sorting a thousand peers for every beat would be felt: the answer is kept until the ring changes.
        self._neighbours: frozenset[PeerId] | None = None

    def __len__(self) -> int:
        return len(self._contacts)

    def __iter__(self) -> Iterator[Contact]:
        return iter(list(self._contacts.values()))

    def find(self, peer: PeerId) -> Contact | None:
        """Return the contact of a followed peer."""
        return self._contacts.get(peer)

    def add(self, peer: PeerId, found_by: FoundBy) -> Contact:
        """Begin to follow a peer."""
        contact = self._contacts[peer] = Contact(peer, found_by)
        self._neighbours = None
        return contact

    def remove(self, contact: Contact) -> None:
        """Follow a peer no longer."""
        del self._contacts[contact.peer]
        self._neighbours = None

    def become(self, own: PeerId) -> None:
        """Stand at another place of the ring, as another peer."""
        self.own = own
        self._neighbours = None

    def note_failure(self, contact: Contact) -> None:
        """Note that none of a peer's addresses answered."""
        contact.failures += 1
        if contact.failures == FAILING_ROUNDS:
            self._neighbours = None

    def note_success(self, contact: Contact) -> None:
        """Note that a peer answered."""
        contact.met, contact.failure = True, ""
        if contact.failures >= FAILING_ROUNDS:
            self._neighbours = None
        contact.failures = 0

    def note_address(self, address: str, failure: str) -> None:
        """Note why nobody answers at an address where somebody unknown should, "" where somebody does."""
        self._failed_addresses[address] = failure

    def failures(self) -> tuple[str, ...]:
        """Return a few reasons why those who are not reached are not, for people."""
        found = list(dict.fromkeys(each.failure for each in self if each.failure))
        # A peer's own reason names its address, too.
        found += [
            failure
            for failure in self._failed_addresses.values()
            if failure and not any(failure in other for other in found)
        ]
        return tuple(
            each if len(each) <= MAX_FAILURE_CHARACTERS else f"{each[: MAX_FAILURE_CHARACTERS - 3]}..."
            for each in found[:MAX_FAILURES_TOLD]
        )

    def needs(self, contact: Contact) -> bool:
        """Tell whether to be connected to a peer: it is a neighbour, or a query borrows it.

        Neighbours that fail are still tried, and their places are taken by others meanwhile.
        """
        if contact.borrowers:
            return True
        if contact.outdated:
            return False
        if self._neighbours is None:
            well = [each.peer for each in self if each.failures < FAILING_ROUNDS]
            self._neighbours = neighbours(self.own, self._contacts) | neighbours(self.own, well)
        return contact.peer in self._neighbours
