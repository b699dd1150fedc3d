"""The ways by name, the project's own first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from qkt_bench.transport import bare, blocking, member
from qkt_bench.transport.ends import Way

if TYPE_CHECKING:
    from collections.abc import Mapping

BARE: Final = "grpc.aio"
FILES: Final = "grpc.aio, file to file"

WAYS: Final[Mapping[str, Way]] = {
    "qkt": member.way("journal to journal, as between two daemons", journals=True),
    "qkt, attached": member.way("the same to a teacher that nobody can dial", journals=True, attached=True),
    "qkt, no journal": member.way("chunks from memory, checked and forgotten", journals=False),
    "qkt, attached, no journal": member.way("both", journals=False, attached=True),
    BARE: bare.way("a bare stream of grpc.aio over mutual TLS, from memory to nowhere"),
    FILES: bare.way("the same from a file to a file, neither checked nor synced", files=True),
    "grpc.aio, as daemons": bare.way(
        "from memory to nowhere, with the allocator set as a daemon sets it", as_daemons=True
    ),
    "socket": Way(blocking.teacher, blocking.asker, "a blocking socket over mutual TLS 1.3"),
}
