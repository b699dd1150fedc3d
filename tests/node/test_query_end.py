"""Ends of queries that the disk does not take: told as they are, kept, and recorded as soon as it does."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from qkt_node.events import QueryOptions
from qkt_p2p.errors import QktError, UsageError
from tests.node.office import Office, end_of
from tests.patience import patience

if TYPE_CHECKING:
    from qkt_node.events import Ended
    from qkt_p2p.outcome import QueryOutcome
    from qkt_p2p.types import QueryId

OPTIONS = QueryOptions(("7",), token="tonight")


class Disk:
    """Takes no end of a query while it is `full`."""

    def __init__(self, office: Office, patch: pytest.MonkeyPatch) -> None:
        self.full = True
        self._finish = office.journal.finish_query
        patch.setattr(office.journal, "finish_query", self.finish)

    def finish(self, *arguments: str, error_json: str = "") -> None:
        """Record an end, unless the disk is full."""
        if self.full:
            raise QktError("database or disk is full", fix="free space")
        self._finish(*arguments, error_json=error_json)  # type: ignore[arg-type]


@pytest.fixture
def disk(office: Office, monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(office, monkeypatch)


async def failed(office: Office) -> tuple[QueryId, Ended]:
    """Have a query fail as on a full disk; return it and what its owner was told."""

    def ending(outcome: QueryOutcome) -> None:
        outcome.outcome = "failed"
        raise QktError("cannot write v0002.safetensors: No space left on device", fix="df -h")

    office.student.ending = ending
    query_id, events = await office.start(OPTIONS)
    office.student.go.set()
    return query_id, await end_of(events)


async def test_an_end_that_is_not_recorded_is_the_end_all_the_same(office: Office, disk: Disk) -> None:
    """Whoever watches, cancels, lists or repeats the token is told of it, not of a query that runs."""
    query_id, told = await failed(office)
    assert office.state(query_id) == "running"
    assert told.error is not None
    assert told.error.fix == "df -h"
    assert "No space left on device; the journal does not say so yet (database or disk" in told.error.message
    assert "the query goes on at its next start" in told.error.message
    assert await office.queries.cancel(query_id) == "failed"
    assert [record.state for record in office.queries.records()] == ["failed"]
    for events in (office.queries.watch(query_id), office.queries.start(OPTIONS)):
        again = await end_of(events)
        assert (again.data, str(again.error)) == (told.data, str(told.error))


async def test_an_end_is_recorded_once_the_disk_takes_it(office: Office, disk: Disk) -> None:
    """It is tried again and again, and then is in the journal as if nothing had been wrong."""
    query_id, told = await failed(office)
    disk.full = False
    async with patience("the end is recorded"):
        await asyncio.gather(*office.ends._background._tasks)
    record = office.record(query_id)
    assert (record.state, json.loads(record.result_json)) == ("failed", told.data)
    assert "journal" not in record.error_json
    assert list(office.models.iterdir()) == []


async def test_a_daemon_that_stops_tries_a_last_time(office: Office, disk: Disk) -> None:
    """What is not recorded even then goes on, as its owner was told, with its candidates."""
    query_id, _ = await failed(office)
    await office.queries.stop()
    assert (office.state(query_id), office.ends.unrecorded) == ("running", 1)
    after = Office(office.journal, office.models)
    await after.queries.resume()
    assert after.state(query_id) == "resumed"
    after.student.go.set()
    disk.full = False
    assert (await end_of(after.queries.watch(query_id))).error is None
    assert after.state(query_id) == "accepted"


async def test_a_last_try_that_succeeds(office: Office, disk: Disk) -> None:
    """A stop records what the disk takes by then."""
    query_id, _ = await failed(office)
    office.ends._pause = 3600.0
    disk.full = False
    await office.queries.stop()
    assert (office.state(query_id), office.ends.unrecorded) == ("failed", 0)


async def test_what_filled_the_disk_goes_before_the_end_is_given_up(
    office: Office, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chunks that a query received are dropped, and its end fits."""
    drop = office.journal.drop_responses

    def give_back(query_id: QueryId) -> None:
        drop(query_id)
        disk.full = False

    monkeypatch.setattr(office.journal, "drop_responses", give_back)
    query_id, told = await failed(office)
    assert told.error is not None
    assert told.error.message == "cannot write v0002.safetensors: No space left on device"
    assert office.state(query_id) == "failed"


async def test_ends_that_are_not_recorded_count_as_queries(
    office: Office, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that memory has an end."""
    await failed(office)
    monkeypatch.setattr("qkt_node.queries.MAX_WAITING", 1)
    with pytest.raises(UsageError, match="1 queries are waiting"):
        office.queries.start(QueryOptions(("8",)))


async def test_a_query_that_is_left_has_not_ended(office: Office) -> None:
    """Whoever cancels it before it is taken up again is told so."""
    query_id, _ = await office.start()
    await office.die()
    after = Office(office.journal, office.models)
    with pytest.raises(UsageError, match="is not taken up again yet"):
        await after.queries.cancel(query_id)
