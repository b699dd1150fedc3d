"""Going back to an earlier model, and comparing two, through a running daemon."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from qkt_node.events import QueryOptions
from qkt_node.model_versions import ModelVersions
from qkt_node.worker.operations import ModelDifference, ModelPair
from qkt_p2p.errors import QktError, UsageError
from qkt_p2p.store.journal import ModelRecord
from qkt_p2p.types import ClassName, StudentModel
from tests.node.office import Office, end_of

SEVEN = (ClassName("7"),)


class VersionWorker:
    """Does with versions as it is asked to, once `go` is set."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.go.set()

    async def call(self, operation: Any, argument: Any) -> Any:
        """Answer as the operation would."""
        self.begun.set()
        await self.go.wait()
        if operation.name == "compare":
            assert argument == ModelPair(1, 2)
            return ModelDifference((), SEVEN, ())
        return StudentModel(argument, (1, 8, 8), SEVEN, SEVEN, trained=SEVEN)


@pytest.fixture
def worker(office: Office, monkeypatch: pytest.MonkeyPatch) -> VersionWorker:
    """A daemon whose model has versions 1, 2 and 3, of which 3 is current and came from 1."""
    for version, parent in ((1, 0), (2, 1), (3, 1)):
        office.journal.add_model(ModelRecord(version, parent, 1.0, SEVEN, "", f"v{version}", "", "{}"))
    office.profile.model = StudentModel(3, (1, 8, 8), SEVEN, SEVEN)
    made = VersionWorker()
    monkeypatch.setattr(office.worker, "call", made.call)
    return made


def versions_of(office: Office) -> ModelVersions:
    return ModelVersions(office.queries._means, office.queries)


@pytest.mark.parametrize(("asked", "found"), [(0, 1), (2, 2)])
async def test_the_daemon_is_what_the_version_is(
    office: Office, worker: VersionWorker, asked: int, found: int
) -> None:
    """Its description is that of the version named, by default of the current one's parent."""
    model = await versions_of(office).roll_back(asked)
    assert (model.version, office.profile.model) == (found, model)


async def test_versions_that_cannot_be_gone_back_to(office: Office, worker: VersionWorker) -> None:
    """The current one is here already, and the first came from none."""
    with pytest.raises(UsageError, match="version 3 is the current one"):
        await versions_of(office).roll_back(3)
    office.profile.model = StudentModel(1, (1, 8, 8), SEVEN, SEVEN)
    with pytest.raises(UsageError, match="version 1 came from no other"):
        await versions_of(office).roll_back(0)
    assert not worker.begun.is_set()


async def test_no_version_changes_under_a_query(office: Office, worker: VersionWorker) -> None:
    """The owner is told which query, and how to end it."""
    query_id, _ = await office.start(QueryOptions(("8",)))
    with pytest.raises(UsageError, match=f"query {query_id} is under way") as caught:
        await versions_of(office).roll_back(1)
    assert f"qkt-node queries cancel {query_id}" in caught.value.fix
    assert await office.queries.cancel(query_id) == "cancelled"
    assert (await versions_of(office).roll_back(1)).version == 1


async def test_a_query_whose_end_is_not_recorded_might_go_on(
    office: Office, worker: VersionWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the model that it began with."""

    def full(*_: object, **__: object) -> None:
        raise QktError("database or disk is full")

    monkeypatch.setattr(office.journal, "finish_query", full)
    query_id, events = await office.start(QueryOptions(("8",)))
    await office.queries.cancel(query_id)
    await end_of(events)
    with pytest.raises(UsageError, match="is not recorded yet"):
        await versions_of(office).roll_back(1)
    await office.ends.stop()


async def test_a_query_that_comes_meanwhile_waits(office: Office, worker: VersionWorker) -> None:
    """And begins with the model that there is then, although whoever asked for that has gone."""
    worker.go.clear()
    going_back = asyncio.create_task(versions_of(office).roll_back(1))
    await worker.begun.wait()
    _, events = await office.start(QueryOptions(("8",)))
    assert "waiting" in (await anext(events)).message  # type: ignore[union-attr]
    going_back.cancel()
    assert not office.student.begun.is_set()
    worker.go.set()
    await office.student.begun.wait()
    assert office.profile.model.version == 1
    office.student.go.set()
    await end_of(events)
    await asyncio.wait({going_back})


async def test_two_versions_are_compared(office: Office, worker: VersionWorker) -> None:
    """Also while a query is under way, which it leaves alone."""
    query_id, _ = await office.start(QueryOptions(("8",)))
    assert (await versions_of(office).compare(1, 2)).trained_after == SEVEN
    assert await office.queries.cancel(query_id) == "cancelled"
