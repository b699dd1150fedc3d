"""Who may make which call: certificate, then revocation, then policy; while it runs, and how many at once."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from qkt_p2p.errors import NotTrustedError, PeerBusyError, PeerUnavailableError
from qkt_p2p.identity.certificates import facts_of_pem
from qkt_p2p.identity.trust import peer_from_uris
from qkt_p2p.limits import BUSY_CALLS_SECONDS, KEY_CHANGE_SECONDS, MAX_CALLS_OF_PEER
from qkt_p2p.privacy.policy import Action, Caller
from qkt_p2p.transport.methods import (
    ANSWER,
    ATTACH,
    EXCHANGE_PEERS,
    EXCHANGE_REVOCATIONS,
    HEARTBEAT,
    HELLO,
    PROBE,
    TEACH,
)
from qkt_p2p.types import PeerId, short

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    import grpc

    from qkt_p2p.identity.inspection import CertificateFacts
    from qkt_p2p.identity.standing import Standing
    from qkt_p2p.privacy.policy import Policy

    Context = grpc.aio.ServicerContext[Any, Any]

ACTIONS: Final[Mapping[str, Action]] = {
    HELLO.path: Action.MEET,
    HEARTBEAT.path: Action.MEET,
    EXCHANGE_PEERS.path: Action.MEET,
    EXCHANGE_REVOCATIONS.path: Action.MEET,
    ATTACH.path: Action.MEET,
    ANSWER.path: Action.MEET,
    PROBE.path: Action.PROBE,
    TEACH.path: Action.TEACH,
}
"""What each call of a peer amounts to, by the call's path. A call that is missing here is refused."""


class Authorization:
    """The one place that decides about callers; `standing` and `policy` are those of the called node."""

    def __init__(self, standing: Standing, policy: Policy) -> None:
        self._standing = standing
        self._policy = policy
        self._running: dict[asyncio.Timeout, CertificateFacts] = {}
        self._own = standing.identity.peer_id
        self._other_key_since = 0.0

    def require(self, facts: CertificateFacts, path: str) -> None:
        """Raise NotTrustedError unless the holder of a certificate may call `path` at this moment."""
        self._standing.admit(facts)
        action = ACTIONS.get(path)
        if action is None:
            raise NotTrustedError(f"no policy of this node says who may call {path}")
        self._policy.require(Caller(facts.peer_id, facts.name, facts.roles), action)

    def require_peer(self, peer: PeerId, path: str) -> None:
        """Do the same for the peer at the other end of a line, whose certificate was verified there."""
        facts = self._standing.certificate_of(peer)
        if facts is None:
            raise NotTrustedError(f"no certificate of peer {short(peer)} was verified here")
        self.require(facts, path)

    @asynccontextmanager
    async def admitted(self, context: Context, path: str) -> AsyncIterator[None]:
        """Let a call run for as long as its caller is admitted; raises NotTrustedError once it is not.

        A caller that has MAX_CALLS_OF_PEER running gets a PeerBusyError.
        """
        facts = certificate_of(context, self._standing.identity.federation)
        self.require(facts, path)
        self._require_name(context, facts)
        self._require_room(facts.peer_id)
        limit = asyncio.timeout(self._standing.seconds_left(facts))
        try:
            async with limit:
                self._running[limit] = facts
                yield
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise NotTrustedError(self._why(facts)) from error
        finally:
            self._running.pop(limit, None)

    def recheck(self) -> None:
        """End the running calls of whoever is no longer admitted; to be called after every change."""
        now = asyncio.get_running_loop().time()
        if self._standing.identity.peer_id != self._own:
            self._own, self._other_key_since = self._standing.identity.peer_id, now
        for limit, facts in self._running.items():
            if self._standing.problem(facts) and not limit.expired():
                limit.reschedule(now)

    def _why(self, facts: CertificateFacts) -> str:
        return self._standing.problem(facts) or f"the certificate of peer {short(facts.peer_id)} expired"

    def is_outdated(self, context: Context) -> bool:
        """Tell whether a call is to the peer that this node was before its key changed."""
        own = self._standing.identity.dns_name
        asked = context.auth_context().get("ssl_requested_server_name", ())
        return any(name.decode("ascii", "replace") != own for name in asked)

    def _require_room(self, peer: PeerId) -> None:
        """Refuse one call too many, so that no peer can take up all that the server accepts."""
        if sum(running.peer_id == peer for running in self._running.values()) >= MAX_CALLS_OF_PEER:
            raise PeerBusyError(
                f"{MAX_CALLS_OF_PEER} calls of this peer run already", retry_after=BUSY_CALLS_SECONDS
            )

    def _require_name(self, context: Context, facts: CertificateFacts) -> None:
        """Refuse calls to whom this node was, once the caller had time to end what it had begun."""
        if not self.is_outdated(context):
            return
        since = asyncio.get_running_loop().time() - self._other_key_since
        busy = any(running.peer_id == facts.peer_id for running in self._running.values())
        if since > KEY_CHANGE_SECONDS and not busy:
            raise PeerUnavailableError(f"this node has another key now: it is peer {self._own}")


def caller_of(context: Context, federation: str) -> PeerId:
    """Return the peer id in the caller's certificate; raises NotTrustedError."""
    # peer_identities() would fall back to the common name where there is no URI: never use it.
    values = context.auth_context().get("peer_uri", [])
    try:
        uris = [value.decode("ascii") for value in values]
    except UnicodeDecodeError as error:
        raise NotTrustedError("the certificate holds a URI that is not ASCII") from error
    return peer_from_uris(uris, federation)


def certificate_of(context: Context, federation: str) -> CertificateFacts:
    """Return what the caller's certificate says; raises NotTrustedError where it names another's peer id."""
    peer = caller_of(context, federation)
    facts = facts_of_pem(b"".join(context.auth_context()["x509_pem_cert"]))
    if facts.peer_id != peer:
        raise NotTrustedError(
            f"the certificate names peer {peer}, but its key is that of peer {facts.peer_id}"
        )
    return facts
