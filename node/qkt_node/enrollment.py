"""Membership of a home: joining, renewing, changing the key; and the authority that serves them."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from qkt_node.addresses import announced
from qkt_node.home import Home, open_home
from qkt_node.new_home import create_home
from qkt_node.settings import NodeConfig, NodeSection
from qkt_p2p.errors import NotTrustedError, UsageError
from qkt_p2p.identity.certificates import root_fingerprints
from qkt_p2p.identity.files import load_file
from qkt_p2p.identity.renewal import load_renewal_addresses, save_renewal_addresses
from qkt_p2p.identity.revocations import install_revocations
from qkt_p2p.identity.tokens import check_addresses
from qkt_p2p.identity.trust import IdentityFiles, Membership, begin_rotation, install_bundle, load_identity
from qkt_p2p.limits import DRAIN_SECONDS
from qkt_p2p.transport.enrollment_client import Issued, enroll, renew
from qkt_p2p.transport.enrollment_server import EnrollmentServer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from qkt_p2p.identity.registrar import Registrar
    from qkt_p2p.identity.tokens import Token
    from qkt_p2p.transport.enrollment_server import Admitted
    from qkt_p2p.types import PeerId


@dataclass(frozen=True, slots=True)
class Serving:
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
    """An authority's enrolment and renewal ports in the foreground, until `stop`, SIGTERM or SIGINT."""

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
        seconds: Callable[[Serving], float | None],
    ) -> Serving:
        """Serve; `seconds` is told where, and answers for how long (None: until stopped)."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        port, renewal_port = await self._server.start(listen, renewal_listen)
        try:
            authority = self._registrar.authority
            serving = Serving(
                authority.federation,
                authority.fingerprint,
                reachable(listen, port, announce),
                reachable(renewal_listen, renewal_port),
            )
            limit = seconds(serving)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), limit)
        finally:
            await self._server.stop(DRAIN_SECONDS)
        return serving


def reachable(listen: str, port: int | None = None, announce: Sequence[str] = ()) -> tuple[str, ...]:
    """Return where others dial a server that listens on "host:port"; raises UsageError.

    `announce` where its owner says so, else what `listen` amounts to on this machine; `port` is the one
    that the system chose, None before it did.
    """
    if announce:
        return check_addresses(tuple(announce))
    try:
        config = NodeConfig(node=NodeSection(listen=listen))
    except ValidationError as error:
        raise UsageError(f"{listen!r} is not host:port", fix="give host:port, as in 0.0.0.0:7448") from error
    chosen = int(listen.rpartition(":")[2]) if port is None else port
    if chosen == 0:
        raise UsageError(f"nobody can dial {listen} before it is served", fix="give --address, or --serve")
    return announced(config, chosen)


async def join_home(root: Path, token: Token) -> Membership:
    """Join with a token: make the home and its key where they are missing, enrol, install, remember.

    Raises NotTrustedError, before anything is sent, where the home is of another federation.
    """
    files = _files_to_join(root, token)
    return _install(files, await enroll(token, load_file(files.request)))


async def renew_home(home: Home, addresses: Sequence[str] = ()) -> Membership:
    """Renew the certificate at the authority; `addresses` default to those remembered at joining."""
    identity = load_identity(home.identity)
    files = identity.files
    return _install(files, await renew(identity, addresses or load_renewal_addresses(files)))


async def rotate_home(home: Home, addresses: Sequence[str] = ()) -> Membership:
    """Change the key: the old one vouches for the new one at the authority, then the new one takes over."""
    identity = load_identity(home.identity)
    files = identity.files
    found = addresses or load_renewal_addresses(files)
    return _install(files, await renew(identity, found, request=load_file(files.next.request)))


def prepare_rotation(home: Home) -> tuple[PeerId, Path]:
    """Make the next key where there is none yet; return its peer id and the request for it."""
    load_identity(home.identity)
    return begin_rotation(home.identity), IdentityFiles(home.identity).next.request


def _files_to_join(root: Path, token: Token) -> IdentityFiles:
    home = open_home(root) if Home(root.absolute()).config_file.exists() else create_home(root)[0]
    files = IdentityFiles(home.identity)
    known = root_fingerprints(load_file(files.roots)) if files.roots.exists() else [token.root]
    if token.root not in known:
        raise NotTrustedError(
            f"{home.root} is a member of the federation with root {' or '.join(known)}; "
            f"the token is for another, with root {token.root}",
            fix="qkt-node join TOKEN --home OTHER_DIR: a node is a member of one federation",
        )
    return files


def _install(files: IdentityFiles, issued: Issued) -> Membership:
    """Put what an authority answered in place; raises NotTrustedError where it is not what it must be."""
    member = install_bundle(files.directory, issued.bundle)
    if issued.renewal_addresses:
        save_renewal_addresses(files, issued.renewal_addresses)
    if issued.revocation_lists:
        install_revocations(files.revoked, load_file(files.roots), issued.revocation_lists)
    return member
