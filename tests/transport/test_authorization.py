"""Who may make which call, over real mutual TLS: certificate, revocation, policy, while a call runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from qkt_p2p.errors import NotTrustedError, PeerUnavailableError
from qkt_p2p.identity.authority import Authority, create_authority, sign_request
from qkt_p2p.identity.certificates import facts_of_pem
from qkt_p2p.identity.keys import dns_name_of, load_key, spiffe_uri
from qkt_p2p.identity.revocation import Revoked, sign_revocation_list
from qkt_p2p.identity.revocations import Revocations
from qkt_p2p.identity.standing import Standing
from qkt_p2p.identity.trust import Identity, load_identity
from qkt_p2p.privacy.policy import DEFAULT_RULES, Action, Policy, Rule
from qkt_p2p.transport.authorization import ACTIONS, Authorization
from qkt_p2p.transport.client import PeerClient
from qkt_p2p.transport.dialer import TlsDialer
from qkt_p2p.transport.identify import identify
from qkt_p2p.transport.methods import ANSWER, ATTACH, PROBE, SERVICE
from qkt_p2p.transport.server import PeerServer
from qkt_p2p.transport.tls import TlsLine
from qkt_p2p.types import Heartbeat, PeerId, TeachPart, short
from tests.patience import patience
from tests.transport.forgery import forge
from tests.transport.members import ASKER_NODE, OFFER, RESPONSE, TEACH, TEACHER_NODE, Teacher, join
from tests.transport.test_calls import BEAT, CALLS, collected

FEDERATION = "hospitals.example"
Call = Callable[[PeerClient], Awaitable[object]]


@pytest.fixture(scope="module")
def authority() -> Authority:
    return create_authority(FEDERATION)


@pytest.fixture(scope="module")
def asker(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return join(authority, tmp_path_factory.mktemp("asker"))


@pytest.fixture
def own(authority: Authority, tmp_path: Path) -> Identity:
    return join(authority, tmp_path / "own")


@dataclass
class Node:
    """A teacher behind a server, at a time of its own, and the clients of it that a test makes."""

    standing: Standing
    teacher: Teacher
    server: PeerServer
    address: str
    ahead: timedelta = timedelta()
    closing: AsyncExitStack = field(default_factory=AsyncExitStack)

    def client(self, caller: Identity) -> PeerClient:
        peer = self.standing.identity.peer_id
        client = PeerClient(peer, TlsLine(peer, self.address, caller))
        self.closing.push_async_callback(client.close)
        return client

    def dialed_by(self, caller: Standing, peer: PeerId | None = None) -> PeerClient:
        client = TlsDialer(caller).connect(peer or self.standing.identity.peer_id, self.address)
        self.closing.push_async_callback(client.close)
        return client


Start = Callable[..., Awaitable[Node]]


@pytest.fixture
async def start(teacher: Teacher, own: Identity) -> AsyncIterator[Start]:
    """Serves the teacher as `own`, by a policy."""
    async with AsyncExitStack() as stack:

        async def started(policy: Policy | None = None) -> Node:
            standing = Standing(own, clock=lambda: datetime.now(UTC) + made.ahead)
            server = PeerServer(teacher, standing, policy=policy)
            address = f"127.0.0.1:{await server.start('127.0.0.1:0')}"
            made = Node(standing, teacher, server, address)
            stack.push_async_callback(server.stop, 0)
            stack.push_async_callback(made.closing.aclose)
            return made

        yield started


@pytest.fixture
async def node(start: Start) -> Node:
    return await start()


def revoking(authority: Authority, member: Identity) -> Revocations:
    entry = Revoked(member.facts.serial, member.peer_id, "key-compromise", datetime.now(UTC))
    return Revocations((sign_revocation_list(authority, None, [entry], now=datetime.now(UTC)),))


def only(action: Action, *rules: Rule) -> Policy:
    return Policy({**DEFAULT_RULES, action: rules})


def test_the_table_names_every_call() -> None:
    """A call that is added to the protocol needs a decision about who may make it."""
    assert set(ACTIONS) == {f"/{SERVICE.full_name}/{method.name}" for method in SERVICE.methods}


def test_a_call_that_is_not_in_the_table_is_refused(own: Identity, asker: Identity) -> None:
    """Nobody may make it, whatever the policy says."""
    with pytest.raises(NotTrustedError, match=r"who may call /qkt\.v1\.X/Y"):
        Authorization(Standing(own), Policy()).require(asker.facts, "/qkt.v1.X/Y")


def test_a_peer_whose_certificate_was_never_verified_may_call_nothing(own: Identity, asker: Identity) -> None:
    """A line on which peers ask back leads to whom it was verified to lead to."""
    standing = Standing(own)
    authorization = Authorization(standing, Policy())
    with pytest.raises(NotTrustedError, match="no certificate of peer"):
        authorization.require_peer(asker.peer_id, PROBE.path)
    standing.admit(asker.facts)
    authorization.require_peer(asker.peer_id, PROBE.path)


PEER_CALLS: dict[str, tuple[Action, Call]] = {
    "hello": (Action.MEET, CALLS["hello"]),
    "heartbeat": (Action.MEET, CALLS["heartbeat"]),
    "exchange": (Action.MEET, CALLS["exchange"]),
    "revocations": (Action.MEET, CALLS["revocations"]),
    "probe": (Action.PROBE, CALLS["probe"]),
    "teach": (Action.TEACH, CALLS["teach"]),
}


@pytest.mark.parametrize(("action", "call"), PEER_CALLS.values(), ids=PEER_CALLS.keys())
async def test_each_call_is_made_by_whom_its_action_is_allowed_to(
    start: Start, asker: Identity, action: Action, call: Call
) -> None:
    """Whoever may not is told so, nothing is done for it, and the owner's log has the reason."""
    refusing = await start(only(action))
    with capture_logs() as logs, pytest.raises(NotTrustedError, match=f"policy does not let .* {action}"):
        await call(refusing.client(asker))
    assert refusing.teacher.callers == []
    (refused,) = (entry for entry in logs if entry["event"] == "call_refused")
    assert refused["peer"] == short(asker.peer_id)
    assert "policy" in refused["reason"]
    for rule in (Rule("any"), Rule("peer", asker.peer_id), Rule("name", "peer *")):
        await call((await start(only(action, rule))).client(asker))
    others = {each: () for each in Action if each is not action}
    await call((await start(Policy({**others, action: (Rule("any"),)}))).client(asker))


async def test_attaching_is_meeting(start: Start, asker: Identity) -> None:
    """Whoever may not meet this node may not be asked by it over a connection of its own either."""
    refusing = await start(only(Action.MEET))
    line = TlsLine(refusing.standing.identity.peer_id, refusing.address, asker)
    with pytest.raises(NotTrustedError, match="policy does not let"):
        await anext(line.stream(ATTACH.path, b""))
    upload = line.channel.stream_unary(ANSWER.path)()  # type: ignore[var-annotated]
    assert (await upload.code()).name == "PERMISSION_DENIED"
    await line.close()


async def test_roles_come_from_the_certificate(start: Start, authority: Authority, asker: Identity) -> None:
    """A member that its authority gave a role may do what the role may, any other may not."""
    request = asker.files.request.read_bytes()
    issued = sign_request(authority, request, name="clinic", roles=["ward"])
    ward = replace(asker, certificate_chain=issued.chain)
    node = await start(only(Action.PROBE, Rule("role", "ward")))
    await CALLS["probe"](node.client(ward))
    with pytest.raises(NotTrustedError, match="probe"):
        await CALLS["probe"](node.client(asker))


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
async def test_a_certificate_that_expires_ends_what_its_holder_may_do(
    node: Node, asker: Identity, call: Call
) -> None:
    """Also over a connection that was made while it was valid."""
    client = node.client(asker)
    await client.hello(ASKER_NODE)
    node.ahead = timedelta(days=365)
    with pytest.raises(NotTrustedError, match=f"certificate of peer {short(asker.peer_id)} expired at"):
        await call(client)
    assert len(node.teacher.callers) == 1


async def test_a_clock_that_is_behind_is_named(node: Node, asker: Identity) -> None:
    """A certificate from the future says whose clocks to look at."""
    node.ahead = timedelta(days=-1)
    with pytest.raises(NotTrustedError, match=r"valid only from .* check both machines' clocks"):
        await node.client(asker).hello(ASKER_NODE)


async def test_a_stream_ends_with_the_certificate_of_its_taker(node: Node, asker: Identity) -> None:
    """Nobody is taught on beyond its membership."""
    client = node.client(asker)
    # What follows is not to wait for a connection: there is not a second left then.
    await client.hello(ASKER_NODE)
    node.teacher.busy = True
    left = asker.not_after - datetime.now(UTC)
    node.ahead = left - timedelta(seconds=0.8)
    async with aclosing(client.teach(TEACH)) as parts:
        assert await anext(parts) == OFFER
        with pytest.raises(NotTrustedError, match="expired"):
            [part async for part in parts]
    assert node.teacher.ended.is_set()


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
async def test_a_revoked_member_loses_its_running_calls_and_makes_no_more(
    node: Node, authority: Authority, asker: Identity, call: Call
) -> None:
    """At once, with the reason; whoever is not revoked is not disturbed."""
    other = join(authority, Path(node.standing.identity.files.directory.parent, "other"))
    node.teacher.busy = True
    client = node.client(asker)
    running = asyncio.ensure_future(call(client))
    undisturbed = asyncio.ensure_future(collected(node.client(other)))
    async with patience("both calls run"):
        while len(node.teacher.callers) < 2:
            node.teacher.began.clear()
            await node.teacher.began.wait()
    node.standing.take(revoking(authority, asker))
    async with patience("the calls of the revoked member end"):
        with pytest.raises(NotTrustedError, match="is revoked: it is no longer a member"):
            await running
        with pytest.raises(NotTrustedError, match="is revoked"):
            await call(client)
    node.teacher.release.set()
    assert await undisturbed == list(RESPONSE)


async def test_a_new_certificate_disturbs_nobody(node: Node, authority: Authority, asker: Identity) -> None:
    """Connections that are open go on, with their streams; new ones see the new certificate."""
    node.teacher.busy = True
    before = node.standing.identity
    async with aclosing(node.client(asker).teach(TEACH)) as parts:
        received: list[TeachPart] = [await anext(parts)]
        issued = sign_request(authority, before.files.request.read_bytes())
        renewed = replace(before, certificate_chain=issued.chain, facts=facts_of_pem(issued.chain))
        node.standing.show(renewed)
        assert (await identify(node.address, asker)).serial == issued.serial
        node.teacher.release.set()
        received += [part async for part in parts]
    assert received == list(RESPONSE)


async def test_a_new_key_is_another_peer(
    node: Node, authority: Authority, asker: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What runs goes on, and beats to the old peer say that it leaves; the new one answers at its address."""
    node.teacher.busy = True
    old = node.client(asker)
    async with aclosing(old.teach(TEACH)) as parts:
        received: list[TeachPart] = [await anext(parts)]
        node.standing.show(join(authority, tmp_path / "next"))
        monkeypatch.setattr("qkt_p2p.transport.authorization.KEY_CHANGE_SECONDS", -1.0)
        await node.teacher.began.wait()
        node.teacher.busy = False
        assert await old.heartbeat(BEAT) == Heartbeat(draining=True, model_version=2)
        node.teacher.release.set()
        received += [part async for part in parts]
    assert received == list(RESPONSE)
    new = node.client(asker)
    assert await new.heartbeat(BEAT) == Heartbeat(draining=False, model_version=2)
    with pytest.raises(PeerUnavailableError, match=f"another key now: it is peer {new.peer}"):
        await old.heartbeat(BEAT)


async def test_a_query_has_time_to_go_on_with_a_peer_whose_key_changed(
    node: Node, authority: Authority, asker: Identity, tmp_path: Path
) -> None:
    """Between its calls too: who was probed is also asked to teach."""
    old = node.client(asker)
    await CALLS["probe"](old)
    node.standing.show(join(authority, tmp_path / "next"))
    assert await collected(old) == list(RESPONSE)


async def test_new_roots_hold_from_the_next_connection_on(
    node: Node, authority: Authority, tmp_path: Path
) -> None:
    """While one authority takes over from another, members of both are let in."""
    second = create_authority(FEDERATION)
    newcomer = join(second, tmp_path / "newcomer")
    newcomer = replace(newcomer, roots=newcomer.roots + authority.roots)
    with pytest.raises(PeerUnavailableError):
        await node.client(newcomer).hello(ASKER_NODE)
    own = node.standing.identity
    node.standing.show(replace(own, roots=own.roots + second.roots))
    assert await node.client(newcomer).hello(ASKER_NODE) == TEACHER_NODE


async def test_a_certificate_that_names_another_member_is_refused_on_both_sides(
    node: Node, authority: Authority, asker: Identity, tmp_path: Path
) -> None:
    """A careless authority's signature does not make one member another."""
    victim = asker.peer_id
    forged = forge(
        authority, tmp_path / "forged", uris=[spiffe_uri(FEDERATION, victim)], hosts=[dns_name_of(victim)]
    )
    reason = f"names peer {victim}, but its key is that of peer {forged.peer_id}"
    with pytest.raises(NotTrustedError, match=reason):
        await node.client(forged).hello(ASKER_NODE)
    assert node.teacher.callers == []
    server = PeerServer(node.teacher, Standing(forged))
    address = f"127.0.0.1:{await server.start('127.0.0.1:0')}"
    with pytest.raises(NotTrustedError, match=reason):
        await identify(address, node.standing.identity)
    await server.stop(0)


async def test_nothing_is_said_to_whom_is_no_longer_a_member(
    node: Node, authority: Authority, asker: Identity
) -> None:
    """A dialer looks at the certificate of whoever answers before its first word, and at each call again."""
    standing = Standing(asker)
    client = node.dialed_by(standing)
    assert await client.hello(ASKER_NODE) == TEACHER_NODE
    assert standing.certificate_of(client.peer) == node.standing.identity.facts
    standing.take(revoking(authority, node.standing.identity))
    for late in (client, node.dialed_by(standing)):
        with pytest.raises(NotTrustedError, match=f"at {node.address}: .*is revoked"):
            await late.hello(ASKER_NODE)
    with pytest.raises(NotTrustedError, match="is revoked"):
        await TlsDialer(standing).identify(node.address)
    assert len(node.teacher.callers) == 1


async def test_a_dialer_says_who_answers_instead(node: Node, asker: Identity) -> None:
    """Whoever moved into a peer's address is named."""
    client = node.dialed_by(Standing(asker), PeerId("b" * 52))
    with pytest.raises(PeerUnavailableError, match=f"peer {short(node.standing.identity.peer_id)} answers"):
        await client.hello(ASKER_NODE)
    assert node.teacher.callers == []


async def test_an_identity_is_shown_as_it_was_loaded(
    node: Node, asker: Identity, authority: Authority, tmp_path: Path
) -> None:
    """Files that are being replaced, one after the other, do not break a handshake."""
    identity = join(authority, tmp_path / "changing")
    identity.files.key.write_bytes(asker.files.key.read_bytes())
    assert (await identify(node.address, identity)).peer_id == node.standing.identity.peer_id
    assert load_key(asker.files.key)
    assert load_identity(asker.files.directory) == asker
