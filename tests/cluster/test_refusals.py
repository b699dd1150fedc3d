"""Who does not get in, between real processes, and what each side's owner is told.

An honest daemon is called by each stranger, dials each stranger, and each stranger's owner starts a
daemon with the same credentials.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from qkt_node.home import Home
from qkt_node.new_home import create_home
from qkt_p2p.errors import NotTrustedError
from qkt_p2p.identity.authority import Authority, create_authority, save_authority, sign_request
from qkt_p2p.identity.files import load_file
from qkt_p2p.identity.keys import load_key, peer_id_of
from qkt_p2p.identity.registrar import REVOKED_FILE, Registrar
from qkt_p2p.identity.revocations import install_revocations
from qkt_p2p.identity.trust import Identity, IdentityFiles, install_bundle, load_identity
from qkt_p2p.pb import control_pb2 as pb
from qkt_p2p.pb import peer_pb2
from qkt_p2p.transport.client import PeerClient
from qkt_p2p.transport.methods import SERVICE
from qkt_p2p.transport.tls import TlsLine
from qkt_p2p.types import NodeDescription, PeerAddress, PeerId, short
from tests.cluster.hostile import BOTH, HOUR, Forgery, calling, make_home, serving
from tests.cluster.local_cluster import ask, command, log_events, running, wait_until
from tests.patience import PATIENCE_SECONDS

CLIENT_ONLY, SERVER_ONLY = BOTH[:1], BOTH[1:]
VICTIM = PeerId("b" * 52)
NODE = NodeDescription(1, "intruder", "1", (), (), (), 1)

FORGERIES = {
    "other federation": Forgery(abroad=True),
    "expired": Forgery(begin=-2 * HOUR, end=-HOUR),
    "not yet valid": Forgery(begin=HOUR, end=2 * HOUR),
    "self-signed": Forgery(by_itself=True),
    "may not call": Forgery(purposes=SERVER_ONLY),
    "may not serve": Forgery(purposes=CLIENT_ONLY),
    "another node's id": Forgery(names=VICTIM),
}


@dataclass(frozen=True)
class Row:
    """What is told: to the caller, to the honest node that dials, to who starts a node so.

    gRPC ends a handshake without an alert, so a caller learns the reason from its own node alone.
    """

    caller: str
    dialer: str
    starter: str


ROWS = {
    "other federation": Row(
        "closed", "another federation's authority signed it", "signed by authority .*trusted here is"
    ),
    "expired": Row("closed", "certificate has expired .*clock", "the certificate expired at"),
    "not yet valid": Row(
        "closed",
        "certificate is not yet valid .*check both machines' clocks",
        "valid only from .* check the clocks",
    ),
    "self-signed": Row(
        "closed", "self-signed certificate .*vouches for itself", "signed by authority unknown"
    ),
    "may not call": Row("closed", "may not be used to dial peers", "may not be used to dial peers"),
    "may not serve": Row("accepted", "unsuitable certificate purpose", "may not be used to serve peers"),
    "another node's id": Row(
        "accepted", f"names peer {VICTIM}, but its key is that of peer", f"names peer {VICTIM}, but its key"
    ),
}
every_row = pytest.mark.parametrize("kind", ROWS)


@dataclass
class Scene:
    """What happened between the honest node and everybody else."""

    home: Home
    port: int
    authority: Authority
    strangers: dict[str, Home]
    member: Identity
    revoked: Identity
    addresses: dict[str, str]
    started: dict[str, tuple[int, str]] = field(default_factory=dict)

    def told_about(self, kind: str) -> str:
        """Return what the honest node logged of dialing somebody."""

        def found() -> str | None:
            events = log_events(self.home, "bootstrap_unreachable")
            return next((each["error"] for each in events if each["address"] == self.addresses[kind]), None)

        return wait_until(found, f"the node dialed {kind}")

    def refusals(self) -> list[dict[str, Any]]:
        return log_events(self.home, "call_refused")

    def peers(self) -> dict[str, pb.PeerStatus]:
        answer = ask(self.home, lambda client: client.peers())
        assert answer is not None
        return {peer.peer_id: peer for peer in answer.peers}

    def knows_no_stranger(self) -> bool:
        """Tell whether nobody but the member was ever taken in."""
        return {peer for peer, each in self.peers().items() if each.certificate_not_after} <= {
            self.member.peer_id
        }


def joined(home: Home, authority: Authority) -> Identity:
    """Make a home a member, of whatever federation it was before."""
    files = IdentityFiles(home.identity)
    files.roots.unlink(missing_ok=True)
    install_bundle(home.identity, sign_request(authority, load_file(files.request)).bundle)
    return load_identity(home.identity)


@pytest.fixture(scope="module")
def scene(trained_home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One honest daemon whose bootstrap list holds nothing but strangers."""
    folder = tmp_path_factory.mktemp("refusals")
    authority = create_authority("wards")
    save_authority(authority, folder / "authority")
    home = Home(shutil.copytree(trained_home.root, folder / "honest", symlinks=True))
    joined(home, authority)
    member, revoked = (joined(create_home(folder / name)[0], authority) for name in ("member", "revoked"))
    _, lists = Registrar(authority, folder / "authority").revoke(revoked.peer_id)
    install_revocations(IdentityFiles(home.identity).revoked, authority.roots, lists.pem)
    strangers = {kind: make_home(folder / kind, authority, each) for kind, each in FORGERIES.items()}
    with ExitStack() as stack:
        addresses = {kind: stack.enter_context(serving(each)) for kind, each in strangers.items()}
        addresses["revoked"] = stack.enter_context(serving(Home(revoked.files.directory.parent)))
        addresses["plaintext"] = stack.enter_context(serving(None))
        addresses["old TLS"] = stack.enter_context(
            serving(Home(member.files.directory.parent), newest=ssl.TLSVersion.TLSv1_1)
        )
        stack.enter_context(running(home, QKT_DISCOVERY_BOOTSTRAP=",".join(addresses.values())))
        status = ask(home, lambda client: client.status())
        assert status is not None
        port = int(status.addresses[0].rpartition(":")[2])
        scene = Scene(home, port, authority, strangers, member, revoked, addresses)
        scene.started = start_all(strangers)
        yield scene


def start_all(homes: dict[str, Home]) -> dict[str, tuple[int, str]]:
    """Start a daemon in each home at once; return how they ended."""
    processes = {
        kind: subprocess.Popen(
            [*command("start", "--home", home.root), "--format", "json"], stdout=subprocess.PIPE, text=True
        )
        for kind, home in homes.items()
    }
    ends = {}
    for kind, process in processes.items():
        out, _ = process.communicate(timeout=60)
        ends[kind] = process.returncode, json.loads(out)["error"]["message"]
    return ends


@every_row
def test_a_stranger_is_refused_when_it_calls(scene: Scene, kind: str) -> None:
    """At the handshake; those that TLS lets pass are refused at their first call, see below."""
    assert calling(scene.strangers[kind])(scene.port) == ROWS[kind].caller
    assert scene.knows_no_stranger()


@every_row
def test_an_owner_is_told_why_a_stranger_is_not_called(scene: Scene, kind: str) -> None:
    """The node that dials looks first, says nothing to whom it does not trust, and logs the reason."""
    assert re.search(ROWS[kind].dialer, scene.told_about(kind))
    assert scene.knows_no_stranger()


@every_row
def test_an_owner_is_told_what_is_wrong_with_its_own_certificate(scene: Scene, kind: str) -> None:
    """A node with such credentials does not start: exit code 5 and the reason."""
    code, message = scene.started[kind]
    assert code == 5
    assert re.search(ROWS[kind].starter, message)


def connected(scene: Scene, caller: Identity) -> PeerClient:
    honest = load_identity(scene.home.identity).peer_id
    return PeerClient(honest, TlsLine(honest, f"127.0.0.1:{scene.port}", caller))


def refusal(scene: Scene, caller: Identity) -> str:
    """Return what a call of hello fails with."""

    async def call() -> str:
        client = connected(scene, caller)
        with pytest.raises(NotTrustedError) as caught:
            await client.hello(NODE)
        await client.close()
        return caught.value.message

    return asyncio.run(call())


def test_a_revoked_member_is_refused_with_the_reason(scene: Scene) -> None:
    """Its certificate is valid for TLS; both owners read that it is revoked."""
    message = refusal(scene, scene.revoked)
    assert message.endswith(
        f"peer {short(scene.revoked.peer_id)} is revoked: it is no longer a member of 'wards'"
    )
    refused = [each for each in scene.refusals() if each["peer"] == short(scene.revoked.peer_id)]
    assert "is revoked" in refused[0]["reason"]
    assert "is revoked" in scene.told_about("revoked")


def test_a_revoked_node_does_not_start(scene: Scene) -> None:
    """Once its own home holds the list, its owner is told at the start."""
    files = scene.revoked.files
    lists = load_file(scene.home.root.parent / "authority" / REVOKED_FILE)
    install_revocations(files.revoked, scene.authority.roots, lists)
    ((code, message),) = start_all({"revoked": Home(files.directory.parent)}).values()
    assert (code, "is revoked" in message) == (5, True)


@pytest.mark.parametrize("kind", [kind for kind, row in ROWS.items() if row.caller == "accepted"])
def test_a_certificate_that_tls_lets_pass_is_refused_at_the_first_call(scene: Scene, kind: str) -> None:
    """The right authority's signature makes nobody another member, and no server a caller."""
    files = IdentityFiles(scene.strangers[kind].identity)
    member = scene.member
    forged = Identity(
        peer_id=VICTIM,
        federation=member.federation,
        facts=member.facts,
        dns_name=member.dns_name,
        certificate_chain=files.certificate.read_bytes(),
        private_key=files.key.read_bytes(),
        roots=member.roots,
        not_after=member.not_after,
        files=files,
    )
    reason = ROWS[kind].starter
    assert re.search(reason, refusal(scene, forged))
    assert any(re.search(reason, each["reason"]) for each in scene.refusals())


def test_a_member_cannot_claim_another_id(scene: Scene) -> None:
    """It is known by its certificate, whatever name or addresses it tells; those of others are hearsay."""

    async def claim() -> None:
        client = connected(scene, scene.member)
        await client.hello(NODE)
        await client.exchange_peers([PeerAddress(VICTIM, ("127.0.0.1:9",), "victim")])
        await client.close()

    asyncio.run(claim())
    shown = scene.peers()
    assert shown[scene.member.peer_id].node_name == "intruder"
    assert VICTIM not in shown or shown[VICTIM].certificate_not_after == 0


def test_no_message_says_who_sends_it() -> None:
    """Peer ids stand in messages only where members tell of third ones."""
    holders = {
        message.name
        for message in peer_pb2.DESCRIPTOR.message_types_by_name.values()
        for field_ in message.fields
        if "peer_id" in field_.name
    }
    assert holders == {"PeerAddress"}
    requests = {method.input_type.name for method in SERVICE.methods}
    assert "PeerAddress" not in requests


def test_a_caller_without_a_certificate_is_refused(scene: Scene) -> None:
    """The handshake demands one."""
    assert calling(None)(scene.port) == "closed"


def test_a_caller_without_tls_is_cut_off(scene: Scene) -> None:
    """Plain HTTP/2 is answered with nothing; a node that dials a port without TLS says what it is."""
    assert calling(None, tls=False)(scene.port) == "closed"
    assert "it does not speak TLS: this is no port of a node" in scene.told_about("plaintext")


@pytest.mark.parametrize(
    ("newest", "outcome"),
    [
        (ssl.TLSVersion.TLSv1, "UNEXPECTED_EOF_WHILE_READING"),
        (ssl.TLSVersion.TLSv1_1, "UNEXPECTED_EOF_WHILE_READING"),
        (ssl.TLSVersion.TLSv1_2, "accepted"),
        (ssl.TLSVersion.TLSv1_3, "accepted"),
    ],
)
def test_tls_below_1_2_is_refused(scene: Scene, newest: ssl.TLSVersion, outcome: str) -> None:
    """Also with a member's certificate; the version alone makes the difference."""
    caller = calling(Home(scene.member.files.directory.parent), newest=newest)
    assert caller(scene.port) == outcome


def test_a_server_of_tls_below_1_2_is_not_called(scene: Scene) -> None:
    """Also one with a member's certificate."""
    assert "no version of TLS that is allowed here, 1.2 or 1.3" in scene.told_about("old TLS")


def test_strangers_cost_a_handshake_and_nothing_else(scene: Scene) -> None:
    """No call of theirs is ever seen by the node: its log tells of members' calls alone."""
    for kind in ROWS:
        calling(scene.strangers[kind])(scene.port)
    calling(None)(scene.port)
    calling(None, tls=False)(scene.port)
    served = log_events(scene.home, "call_served")
    by_others = [each for each in served if each["peer"] not in {short(scene.member.peer_id), "owner"}]
    assert {each["outcome"] for each in by_others} <= {"not-trusted"}
    passing = [kind for kind, row in ROWS.items() if row.caller == "accepted"]
    certified = {load_key(IdentityFiles(scene.strangers[kind].identity).key) for kind in passing}
    known = {short(peer_id_of(key.public_key())) for key in certified}
    assert {each["peer"] for each in by_others} <= known | {short(VICTIM), short(scene.revoked.peer_id)}


def test_grpc_offers_no_way_around(scene: Scene) -> None:
    """A channel without credentials reaches no method, declared or not."""
    with grpc.insecure_channel(f"127.0.0.1:{scene.port}") as channel:
        call: Any = channel.unary_unary(f"/{SERVICE.full_name}/Hello")
        with pytest.raises(grpc.RpcError, match="UNAVAILABLE"):
            call(b"", timeout=PATIENCE_SECONDS)
