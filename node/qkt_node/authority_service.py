"""A federation's authority in the foreground: where its ports answer, until it is told to stop."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from qkt_node.addresses import announced, is_wildcard
from qkt_node.settings import NodeConfig, NodeSection
from qkt_node.stopping import on_request_to_stop
from qkt_p2p.errors import UsageError
from qkt_p2p.identity.files import load_file, save_file
from qkt_p2p.identity.tokens import check_addresses
from qkt_p2p.limits import DRAIN_SECONDS
from qkt_p2p.transport.enrollment_server import EnrollmentServer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from qkt_p2p.identity.registrar import Registrar
    from qkt_p2p.transport.enrollment_server import Admitted


_LISTENER_FILE: Final = "listen"


@dataclass(frozen=True, slots=True)
class AuthorityAddresses:
    """Where a started authority answers, "host:port"."""

    federation: str
    root: str
    enrollment: tuple[str, ...]
    renewal: tuple[str, ...]

    def line(self) -> str:
        """Return the one line that tells people."""
        return (
            f"ready federation={self.federation} enrollment={self.enrollment[0]} "
            f"renewal={self.renewal[0]} root={self.root}"
        )

    def as_data(self) -> dict[str, Any]:
        """Return the same for machines."""
        return {
            "federation": self.federation,
            "root": self.root,
            "enrollment": list(self.enrollment),
            "renewal": list(self.renewal),
        }


class AuthorityService:
    """An authority's enrolment and renewal ports in the foreground, until `stop`, or its owner has it end."""

    def __init__(
        self,
        registrar: Registrar,
        *,
        admitted: Callable[[Admitted], None],
        refused: Callable[[str, str], None],
    ) -> None:
        self._registrar = registrar
        self._stopping = asyncio.Event()
        self._server = EnrollmentServer(registrar, admitted=admitted, refused=refused)

    def stop(self) -> None:
        """Have `run` end after the running calls."""
        self._stopping.set()

    async def run(
        self,
        listen: str,
        renewal_listen: str,
        *,
        announce: Sequence[str] = (),
        seconds: Callable[[AuthorityAddresses], float | None],
    ) -> AuthorityAddresses:
        """Serve, and return where; `seconds` is told that first, and says for how long, None for no limit."""
        on_request_to_stop(self._stopping.set)
        port, renewal_port = await self._server.start(listen, renewal_listen)
        try:
            authority = self._registrar.authority
            addresses = AuthorityAddresses(
                authority.federation,
                authority.fingerprint,
                reachable(listen, port, announce),
                reachable(renewal_listen, renewal_port),
            )
            limit = seconds(addresses)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), limit)
        finally:
            await self._server.stop(DRAIN_SECONDS)
        return addresses


def remember_listener(authority: Path, listen: str, addresses: AuthorityAddresses) -> None:
    """Note in an authority's folder where it was served, with the port that was found for port 0."""
    host, port = listen.rpartition(":")[0], addresses.enrollment[0].rpartition(":")[2]
    save_file(authority / _LISTENER_FILE, f"{host}:{port}\n".encode())


def remembered_listener(authority: Path) -> str:
    """Return the "host:port" on which an authority was served last, "" where it never was."""
    path = authority / _LISTENER_FILE
    return load_file(path).decode(errors="replace").strip() if path.exists() else ""


def reachable(listen: str, port: int | None = None, announce: Sequence[str] = ()) -> tuple[str, ...]:
    """Return where others dial a server that listens on "host:port"; raises UsageError.

    `announce` where its owner says so, else what `listen` amounts to on this machine; `port` is the one
    that the system chose, None before it did.
    """
    if announce:
        if nobodys := next(filter(is_wildcard, announce), None):
            raise UsageError(
                f"nobody can dial {nobodys}: it stands for all addresses of a machine",
                fix="give --address as the other machines dial this one",
            )
        return check_addresses(tuple(announce))
    try:
        config = NodeConfig(node=NodeSection(listen=listen))
    except ValidationError as error:
        raise UsageError(f"{listen!r} is not host:port", fix="give host:port, as in 0.0.0.0:7448") from error
    chosen = int(listen.rpartition(":")[2]) if port is None else port
    if chosen == 0:
        raise UsageError(f"nobody can dial {listen} before it is served", fix="give --address, or --serve")
    return announced(config, chosen)
