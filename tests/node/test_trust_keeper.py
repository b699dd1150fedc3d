"""What a running daemon takes over of files and of its peers, and what it goes on with instead."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest
from structlog.testing import capture_logs

from qkt_node import trust_keeper
from qkt_node.trust_keeper import TrustKeeper
from qkt_p2p.errors import ConfigError, NotTrustedError, QktError
from qkt_p2p.identity.authority import Authority, create_authority, sign_request
from qkt_p2p.identity.keys import encode_digest
from qkt_p2p.identity.revocation import RevocationList, Revoked, sign_revocation_list
from qkt_p2p.identity.revocations import Revocations, load_revocations, save_revocations
from qkt_p2p.identity.trust import IdentityFiles, begin_rotation, create_identity, install_bundle
from qkt_p2p.transport.client import PeerClient
from qkt_p2p.types import Heartbeat, PeerId
from tests.patience import patience

NOW = datetime.now(UTC)
AUTHORITY = create_authority("fed")
VICTIM, OTHER, TELLER = (PeerId(encode_digest(bytes([number]) * 32)) for number in range(3))


def revoking(
    *peers: PeerId, after: RevocationList | None = None, by: Authority = AUTHORITY
) -> RevocationList:
    entries = [Revoked(number + 1, peer, "unspecified", NOW) for number, peer in enumerate(peers)]
    return sign_revocation_list(by, after, entries, now=NOW)


FIRST = revoking(VICTIM)
SECOND = revoking(VICTIM, OTHER, after=FIRST)


@pytest.fixture
def files(tmp_path: Path) -> IdentityFiles:
    """A home's identity/, of a member."""
    directory = tmp_path / "identity"
    create_identity(directory)
    found = IdentityFiles(directory)
    install_bundle(directory, sign_request(AUTHORITY, found.request.read_bytes()).bundle)
    return found


@pytest.fixture
def keeper(files: IdentityFiles) -> TrustKeeper:
    return TrustKeeper(files.directory)


async def test_lists_that_a_peer_tells_hold_and_are_kept(keeper: TrustKeeper, files: IdentityFiles) -> None:
    """From then on, also after a restart, and in what this node tells others."""
    await keeper.hear(FIRST.pem, teller=TELLER)
    assert keeper.standing.revoked() == {VICTIM}
    assert keeper.lists == FIRST.pem
    assert TrustKeeper(files.directory).standing.revoked() == {VICTIM}


async def test_an_older_list_never_replaces_a_newer_one(keeper: TrustKeeper, files: IdentityFiles) -> None:
    """Neither from a peer nor from a file."""
    await keeper.hear(SECOND.pem, teller=TELLER)
    await keeper.hear(FIRST.pem, teller=TELLER)
    assert keeper.lists == SECOND.pem
    save_revocations(files.revoked, Revocations((FIRST,)))
    await keeper.reload()
    assert keeper.lists == SECOND.pem == load_revocations(files.revoked, AUTHORITY.roots).pem


async def test_lists_of_unknown_authorities_are_passed_over(keeper: TrustKeeper) -> None:
    """Others may trust more authorities than this node does; what it knows is taken all the same."""
    unknown = revoking(OTHER, by=create_authority("fed"))
    await keeper.hear(unknown.pem + FIRST.pem, teller=TELLER)
    assert keeper.lists == FIRST.pem


@pytest.mark.parametrize("lists", [b"none", FIRST.pem.replace(b"A", b"B"), b"\xff" * 100])
async def test_what_is_no_list_changes_nothing(keeper: TrustKeeper, lists: bytes) -> None:
    """Its teller is told so."""
    await keeper.hear(FIRST.pem, teller=TELLER)
    with pytest.raises(NotTrustedError):
        await keeper.hear(lists, teller=TELLER)
    assert keeper.lists == FIRST.pem


async def test_a_peer_that_holds_none_tells_nothing(keeper: TrustKeeper) -> None:
    """No lists are no mistake."""
    await keeper.hear(b"", teller=TELLER)
    assert keeper.standing.revocations == Revocations()


async def test_lists_hold_although_they_cannot_be_saved(
    keeper: TrustKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk lets no revoked peer in."""

    def full(*_: object) -> None:
        raise ConfigError("cannot write revoked.pem: no space left on device")

    monkeypatch.setattr(trust_keeper, "save_revocations", full)
    with capture_logs() as logs:
        await keeper.hear(FIRST.pem, teller=TELLER)
    assert keeper.standing.revoked() == {VICTIM}
    assert [entry["event"] for entry in logs] == ["revocations_not_saved", "revocations_taken"]


async def test_a_renewed_certificate_is_taken_over(keeper: TrustKeeper, files: IdentityFiles) -> None:
    """The next connection shows it, and the parts of the daemon are told once."""
    told = list[int]()
    keeper.standing.watch(lambda: told.append(keeper.standing.identity.facts.serial))
    issued = sign_request(AUTHORITY, files.request.read_bytes())
    install_bundle(files.directory, issued.bundle)
    await keeper.reload()
    await keeper.reload()
    assert told == [issued.serial]


async def test_a_new_key_is_taken_over(keeper: TrustKeeper, files: IdentityFiles) -> None:
    """The node goes on as another peer."""
    before = keeper.standing.identity.peer_id
    after = begin_rotation(files.directory)
    install_bundle(files.directory, sign_request(AUTHORITY, files.next.request.read_bytes()).bundle)
    await keeper.reload()
    assert keeper.standing.identity.peer_id == after != before


async def test_files_that_peers_would_refuse_are_not_taken_over(
    keeper: TrustKeeper, files: IdentityFiles
) -> None:
    """What held before holds on; lists that came with them hold too."""
    before = keeper.standing.identity
    save_revocations(files.revoked, Revocations((FIRST,)))
    files.certificate.write_bytes(b"damaged")
    with pytest.raises(QktError, match="certificate"):
        await keeper.reload()
    assert keeper.standing.identity == before
    assert keeper.standing.revoked() == {VICTIM}


async def test_lists_of_an_authority_that_is_dropped_are_forgotten(
    keeper: TrustKeeper, files: IdentityFiles
) -> None:
    """At the end of a change-over the old authority's list goes with its root."""
    old = create_authority("fed")
    issued = sign_request(AUTHORITY, files.request.read_bytes())
    files.roots.write_bytes(AUTHORITY.roots + old.roots)
    await keeper.reload()
    await keeper.hear(revoking(VICTIM, by=old).pem, teller=TELLER)
    assert keeper.standing.revoked() == {VICTIM}
    install_bundle(files.directory, issued.bundle)
    await keeper.reload()
    assert keeper.standing.revoked() == frozenset()


class Watched(TrustKeeper):
    """Tells that it tried to take files over."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.reloaded = asyncio.Event()

    async def reload(self) -> None:
        try:
            await super().reload()
        finally:
            self.reloaded.set()


async def test_changed_files_are_noticed(files: IdentityFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that another program than this command line put there; mistakes in them are logged."""
    monkeypatch.setattr(trust_keeper, "TRUST_WATCH_SECONDS", 0.001)
    keeper, changed = Watched(files.directory), asyncio.Event()
    keeper.standing.watch(changed.set)
    watching = asyncio.create_task(keeper.watch())
    with capture_logs() as logs:
        async with patience("what changed is read"):
            files.certificate.write_bytes(b"damaged")
            await keeper.reloaded.wait()
            issued = sign_request(AUTHORITY, files.request.read_bytes())
            install_bundle(files.directory, issued.bundle)
            await changed.wait()
    assert logs[0]["event"] == "trust_not_reloaded"
    assert keeper.standing.identity.facts.serial == issued.serial
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


class Link:
    """A peer that answers with some lists and remembers those that it was told."""

    def __init__(self, answer: bytes) -> None:
        self.peer = TELLER
        self.told: list[bytes] = []
        self._answer = answer

    async def exchange_revocations(self, lists: bytes) -> bytes:
        self.told.append(lists)
        return self._answer


async def compared(keeper: TrustKeeper, link: Link, digest: int) -> None:
    await keeper.compare(cast("PeerClient", link), Heartbeat(False, 1, digest))


async def test_lists_are_exchanged_when_a_beat_tells_of_others(keeper: TrustKeeper) -> None:
    """Each side takes what it lacks in one call; where both hold the same there is none."""
    await keeper.hear(FIRST.pem, teller=TELLER)
    link = Link(SECOND.pem)
    await compared(keeper, link, keeper.standing.revocations.digest)
    assert link.told == []
    await compared(keeper, link, Revocations((SECOND,)).digest)
    assert link.told == [FIRST.pem]
    assert keeper.lists == SECOND.pem
    await compared(keeper, link, keeper.standing.revocations.digest)
    assert len(link.told) == 1


async def test_peers_that_never_agree_do_not_ask_with_every_beat(
    keeper: TrustKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exchange that changed nothing is repeated after a pause, or once a side holds others."""
    await keeper.hear(FIRST.pem, teller=TELLER)
    link = Link(FIRST.pem)
    for digest, calls in ((1, 1), (1, 1), (2, 2), (2, 2)):
        await compared(keeper, link, digest)
        assert len(link.told) == calls
    monkeypatch.setattr(trust_keeper, "REVOCATION_RETRY_SECONDS", 0.0)
    await compared(keeper, link, 2)
    await keeper.hear(SECOND.pem, teller=TELLER)
    await compared(keeper, link, 2)
    assert len(link.told) == 4
