"""Who is taught in which medium, over the in-memory transport and over real mutual TLS."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from qkt_node.profile import Profile
from qkt_node.serving import Serving
from qkt_p2p.errors import PeerRefusedError
from qkt_p2p.identity.authority import create_authority, sign_request
from qkt_p2p.identity.standing import Standing
from qkt_p2p.identity.trust import Identity, IdentityFiles, create_identity, install_bundle, load_identity
from qkt_p2p.privacy.policy import DEFAULT_RULES, Action, Policy, Rule
from qkt_p2p.store.journal import Journal
from qkt_p2p.transport.client import PeerClient
from qkt_p2p.transport.memory import MemoryNetwork
from qkt_p2p.transport.server import PeerServer
from qkt_p2p.transport.tls import TlsLine
from qkt_p2p.types import (
    MEDIA,
    Chunk,
    ChunkInfo,
    ClassName,
    ProbeReport,
    ProbeRequest,
    QueryId,
    TeachEnd,
    TeachOffer,
    TeachRequest,
)

if TYPE_CHECKING:
    from pathlib import Path

PROBE = ProbeRequest(QueryId("0" * 16), 1, 8, ())
WEIGHTS = TeachRequest(QueryId("0" * 16), "weights", 1, 10, (ClassName("7"),), (1, 8, 8))
CHUNK = Chunk(0, b"the model")
OFFER = TeachOffer("weights", 1, WEIGHTS.classes, (ChunkInfo(bytes(32), len(CHUNK.data), 10),))
ALL_BUT_WEIGHTS = tuple(medium for medium in MEDIA if medium != "weights")


class StandInWorker:
    """Answers a probe, and has made the bank."""

    async def call(self, operation: Any, argument: object) -> Any:
        """Answer as the operation would."""
        return ProbeReport(1, (1, 8, 8), ()) if operation.name == "probe" else "bank"


class Keeper:
    """The part of a trust keeper that serving needs."""

    def __init__(self, standing: Standing) -> None:
        self.standing = standing


Connect = Callable[[Identity], PeerClient]
Serve = Callable[[Policy], Awaitable[Connect]]


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Identity]:
    """The node that serves, a ward, and a laboratory that has its role from the authority."""
    authority = create_authority("hospitals.example")

    def member(name: str, *roles: str) -> Identity:
        home = tmp_path_factory.mktemp(name)
        create_identity(home)
        request = IdentityFiles(home).request.read_bytes()
        install_bundle(home, sign_request(authority, request, name=name, roles=roles).bundle)
        return load_identity(home)

    return {"own": member("own"), "ward": member("ward"), "lab": member("lab", "research")}


@pytest.fixture(params=["memory", "tls"])
async def serve(
    request: pytest.FixtureRequest, tmp_path: Path, members: dict[str, Identity]
) -> AsyncIterator[Serve]:
    """Start serving under a policy, and connect members to it."""
    own, nothing = members["own"], cast("Any", None)
    async with AsyncExitStack() as stack:
        journal = stack.enter_context(closing(Journal(tmp_path / "state.sqlite")))
        journal.save_bank("bank", OFFER, [CHUNK])

        async def start(policy: Policy) -> Connect:
            standing = Standing(own)
            serving = Serving(
                Profile("own"),
                cast("Any", StandInWorker()),
                journal=journal,
                membership=nothing,
                contacts=nothing,
                keeper=cast("Any", Keeper(standing)),
                policy=policy,
            )
            if request.param == "memory":
                network = MemoryNetwork()
                network.serve(own.peer_id, serving)
                return lambda caller: network.connect(caller.peer_id, own.peer_id)
            server = PeerServer(serving, standing, policy=policy)
            port = await server.start("127.0.0.1:0")
            stack.push_async_callback(server.stop, 0)

            def connect(caller: Identity) -> PeerClient:
                client = PeerClient(own.peer_id, TlsLine(own.peer_id, f"127.0.0.1:{port}", caller))
                stack.push_async_callback(client.close)
                return client

            return connect

        yield start


async def taught(client: PeerClient, request: TeachRequest) -> list[object]:
    return [part async for part in client.teach(request)]


def fetching(*rules: Rule, media: tuple[str, ...] = MEDIA) -> Policy:
    return Policy({**DEFAULT_RULES, Action.FETCH_MODEL: rules}, media)


async def test_by_default_nobody_gets_the_weights(serve: Serve, members: dict[str, Identity]) -> None:
    """They are not offered, and refused to whoever asks all the same."""
    client = (await serve(Policy()))(members["lab"])
    assert (await client.probe(PROBE)).media == ALL_BUT_WEIGHTS
    with pytest.raises(PeerRefusedError, match="does not teach this caller in the medium weights"):
        await taught(client, WEIGHTS)


async def test_only_whom_fetch_model_names_gets_the_weights(
    serve: Serve, members: dict[str, Identity]
) -> None:
    """One member is offered them and gets them; another one of the same federation does not."""
    connect = await serve(fetching(Rule("peer", members["lab"].peer_id)))
    lab, ward = connect(members["lab"]), connect(members["ward"])
    assert (await lab.probe(PROBE)).media == MEDIA
    assert (await ward.probe(PROBE)).media == ALL_BUT_WEIGHTS
    assert await taught(lab, WEIGHTS) == [OFFER, CHUNK, TeachEnd(1)]
    with pytest.raises(PeerRefusedError, match="in the medium weights"):
        await taught(ward, WEIGHTS)


async def test_a_node_that_names_its_media_teaches_in_no_other(
    serve: Serve, members: dict[str, Identity]
) -> None:
    """Fetching the model does not open what the owner closed."""
    connect = await serve(fetching(Rule("any"), media=("moments",)))
    lab = connect(members["lab"])
    assert (await lab.probe(PROBE)).media == ("moments",)
    for medium in ("weights", "features", "inversion", "telepathy"):
        with pytest.raises(PeerRefusedError, match=f"in the medium {medium}"):
            await taught(lab, replace(WEIGHTS, medium=medium))


@pytest.mark.parametrize("serve", ["tls"], indirect=True)
@pytest.mark.parametrize("rule", [Rule("role", "research"), Rule("name", "la*")])
async def test_roles_and_names_are_those_of_the_certificate(
    serve: Serve, members: dict[str, Identity], rule: Rule
) -> None:
    """What the authority wrote decides, from the first call of a connection on."""
    connect = await serve(fetching(rule))
    assert await taught(connect(members["lab"]), WEIGHTS) == [OFFER, CHUNK, TeachEnd(1)]
    with pytest.raises(PeerRefusedError, match="in the medium weights"):
        await taught(connect(members["ward"]), WEIGHTS)
