"""A machine whose network interfaces a test sets."""

from __future__ import annotations

import socket
from collections import namedtuple
from dataclasses import dataclass, field

Address = namedtuple("Address", "family address")
State = namedtuple("State", "isup")


@dataclass
class Machine:
    """What psutil tells of interfaces, and the address that others reach by the default route."""

    interfaces: dict[str, list[Address]] = field(default_factory=dict)
    states: dict[str, State] = field(default_factory=dict)
    default: str = ""

    def has(self, name: str, *addresses: str, cable: bool = True) -> None:
        """Give an interface these addresses in place of those that it had."""
        families = [socket.AF_INET6 if ":" in address else socket.AF_INET for address in addresses]
        # Every interface has an address of its hardware, too.
        hardware = Address(socket.AF_PACKET, "02:00:00:00:00:01")
        self.interfaces[name] = [*map(Address, families, addresses), hardware]
        self.states[name] = State(cable)
