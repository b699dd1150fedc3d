"""The ways by name, the project's own first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from qkt_bench.transport import bare, blocking, member
from qkt_bench.transport.ends import Way

if TYPE_CHECKING:
    from collections.abc import Mapping

BARE: Final = "grpc.aio"

WAYS: Final[Mapping[str, Way]] = {
    "qkt": member.way("journal to journal, as between two daemons", journals=True),
    "qkt, attached": member.way("the same to a teacher that nobody can dial", journals=True, attached=True),
    "qkt, no journal": member.way("chunks from memory, checked and forgotten", journals=False),
    "qkt, attached, no journal": member.way("both", journals=False, attached=True),
    BARE: Way(bare.teacher, bare.asker, "a bare stream of grpc.aio over mutual TLS"),
    "grpc.aio, as daemons": Way(
        bare.teacher, bare.asker, "the same with the allocator set as a daemon sets it", as_daemons=True
    ),
    "socket": Way(blocking.teacher, blocking.asker, "a blocking socket over mutual TLS 1.3"),
}
