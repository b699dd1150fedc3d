"""Who takes part in the arena: members with real certificates, and teachers that serve behind a way."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from qkt_node.cluster.chaos.lies import LyingHandler
from qkt_node.cluster.chaos.proxy import Proxy
from qkt_p2p.identity.authority import Authority, create_authority, sign_request
from qkt_p2p.identity.standing import Standing
from qkt_p2p.identity.trust import Identity, install_bundle, load_identity
from qkt_p2p.transport.server import PeerServer
from tests.faults.bank import KNOWLEDGE, BankTeacher
from tests.transport.members import join

ASKER = "asker"


@dataclass
class Host:
    """One teacher: its answers, its server, and the way to it."""

    name: str
    teacher: BankTeacher
    identity: Identity
    proxy: Proxy
    handler: LyingHandler
    standing: Standing = field(init=False)
    server: PeerServer | None = None

    async def start(self) -> None:
        """Serve on another port than before, which the way leads to."""
        # As a process that starts again: who watched the last one is gone.
        self.standing = Standing(self.identity)
        self.server = PeerServer(self.handler, self.standing)
        self.proxy.target = f"127.0.0.1:{await self.server.start('127.0.0.1:0')}"
        self.proxy.conditions.gone = False

    async def stop(self) -> None:
        server, self.server = self.server, None
        if server is not None:
            await server.stop(0)


@dataclass(frozen=True)
class Members:
    """A federation that many arenas share: founding one takes longer than a query in it."""

    authority: Authority
    folder: Path
    identities: dict[str, Identity]

    @classmethod
    def found(cls, folder: Path) -> Members:
        # Older than any clock of a schedule is wrong.
        authority = create_authority("arena", now=datetime.now(UTC) - timedelta(days=1))
        names = (ASKER, *KNOWLEDGE)
        return cls(authority, folder, {name: join(authority, folder / name) for name in names})

    def certified(self, name: str, *, begin: datetime, seconds: float) -> Identity:
        """Return the same member with a certificate of another validity; nobody else is shown it."""
        # Certificates know whole seconds.
        begin = begin.replace(microsecond=0)
        home = self.folder / f"{name}-{begin.timestamp():.0f}-{seconds:.0f}"
        if not home.exists():
            home.mkdir(mode=0o700)
            for file in (self.identities[name].files.key, self.identities[name].files.request):
                (home / file.name).write_bytes(file.read_bytes())
                (home / file.name).chmod(0o600)
        request = (home / "request.pem").read_bytes()
        signed = sign_request(self.authority, request, now=begin, lifetime=timedelta(seconds=seconds))
        install_bundle(home, signed.bundle, now=begin)
        return load_identity(home, now=begin)
