"""What a node's process holds, before and after: memory, files, sockets, tasks."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

import psutil

from qkt_node.allocator import KEPT_BYTES
from qkt_node.cluster.chaos.node import holdings_of

if TYPE_CHECKING:
    from qkt_node.home import Home


@dataclass(frozen=True, slots=True)
class Holdings:
    """What one process holds.

    Resident MiB; of them the MiB that malloc gave out and did not get back; blocks of Python's objects; open
    file descriptors, those of them that are sockets, and tasks of the event loop.
    """

    mebibytes: float
    used: float
    blocks: int
    files: int
    sockets: int
    tasks: int


ROOM: Final = Holdings(mebibytes=KEPT_BYTES / 2**20, used=4.0, blocks=20_000, files=12, sockets=12, tasks=12)
"""How much more a process may hold afterwards: what its allocator keeps for the next buffers, a few chunks, a
tenth of the objects of a daemon at rest, connections that are being made anew."""


async def holdings(home: Home, pid: int) -> Holdings:
    """Return what a node's daemon holds now; its worker, which comes and goes, does not count."""
    process, told = psutil.Process(pid), await holdings_of(home)
    return Holdings(
        mebibytes=round(process.memory_info().rss / 2**20, 1),
        files=process.num_fds(),
        sockets=len(process.net_connections(kind="all")),
        used=told["used"],
        blocks=int(told["blocks"]),
        tasks=int(told["tasks"]),
    )


def leaked(before: Holdings, after: Holdings) -> list[str]:
    """Return what grew by more than there is room for."""
    grown = {name: value - asdict(before)[name] for name, value in asdict(after).items()}
    return [f"{grown[name]:g} {name} more" for name, room in asdict(ROOM).items() if grown[name] > room]
