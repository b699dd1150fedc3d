"""A node that answers its peers, members of its federation, and a node's own queries."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, closing
from pathlib import Path

import psutil
import pytest

from qkt_node import interfaces
from qkt_p2p.identity.authority import create_authority, sign_request
from qkt_p2p.identity.trust import Identity, IdentityFiles, create_identity, install_bundle, load_identity
from qkt_p2p.store.journal import Journal
from qkt_p2p.transport.memory import MemoryNetwork
from tests.node.hosting import CHUNKS, OFFER, Host, StandInWorker
from tests.node.machine import Machine
from tests.node.office import Office

Join = Callable[..., Identity]


@pytest.fixture(scope="session")
def join(tmp_path_factory: pytest.TempPathFactory) -> Join:
    """Makes members of one federation: name, then roles."""
    authority = create_authority("hospitals.example")

    def member(name: str, *roles: str) -> Identity:
        home = tmp_path_factory.mktemp(name)
        create_identity(home)
        request = IdentityFiles(home).request.read_bytes()
        install_bundle(home, sign_request(authority, request, name=name, roles=roles).bundle)
        return load_identity(home)

    return member


@pytest.fixture(scope="session")
def members(join: Join) -> dict[str, Identity]:
    """The node that serves, a ward, and a laboratory that has its role from the authority."""
    return {"own": join("own"), "ward": join("ward"), "lab": join("lab", "research")}


@pytest.fixture
def worker() -> StandInWorker:
    return StandInWorker()


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Journal]:
    """A journal that holds one bank, named "bank"."""
    with closing(Journal(tmp_path / "state.sqlite")) as journal:
        journal.save_bank("bank", OFFER, CHUNKS)
        yield journal


@pytest.fixture(params=["memory", "tls"])
async def host(
    request: pytest.FixtureRequest, bank: Journal, members: dict[str, Identity]
) -> AsyncIterator[Host]:
    """A node with a bank, served in memory and over mutual TLS."""
    async with AsyncExitStack() as stack:
        yield Host(members["own"], bank, stack, MemoryNetwork() if request.param == "memory" else None)


@pytest.fixture
async def host_in_memory(bank: Journal, members: dict[str, Identity]) -> AsyncIterator[Host]:
    """The same where the way does not matter."""
    async with AsyncExitStack() as stack:
        yield Host(members["own"], bank, stack, MemoryNetwork())


@pytest.fixture
async def host_over_tls(bank: Journal, members: dict[str, Identity]) -> AsyncIterator[Host]:
    """The same where only mutual TLS will do."""
    async with AsyncExitStack() as stack:
        yield Host(members["own"], bank, stack, None)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """This machine, as if it had no interfaces but those that the test gives it."""
    machine = Machine()
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: machine.interfaces)
    monkeypatch.setattr(psutil, "net_if_stats", lambda: machine.states)
    monkeypatch.setattr(interfaces, "_default_source", lambda _: machine.default)
    return machine


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    """Queries on a journal and a folder of models of their own."""
    with closing(Journal(tmp_path / "state.sqlite")) as journal:
        (tmp_path / "models").mkdir()
        yield Office(journal, tmp_path / "models")
