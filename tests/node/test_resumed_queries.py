"""Queries whose daemon ended: the next one goes on with them, or says why it cannot."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import closing, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from qkt_node.events import Ended, QueryOptions
from qkt_node.kept import KeptQuery, decode_kept, encode_kept
from qkt_node.model_files import candidate_file
from qkt_node.queries import MAX_ATTEMPTS
from qkt_p2p.digests import chunk_digest
from qkt_p2p.errors import NotRunningError, QktError
from qkt_p2p.outcome import TeacherOutcome
from qkt_p2p.store.journal import Journal, ModelRecord
from qkt_p2p.types import Chunk, ChunkInfo, ClassName, PeerId, QueryId, TeachOffer
from tests.node.office import Office, end_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from qkt_node.events import QueryEvent


async def begun(office: Office, *classes: str) -> tuple[QueryId, AsyncIterator[QueryEvent]]:
    """Return a query whose first steps are finished, and its events."""
    query_id, events = await office.start(QueryOptions(classes or ("7",)))
    await office.student.begun.wait()
    return query_id, events


def next_daemon(office: Office) -> Office:
    """Return what the next daemon on the same home has, before it goes on with anything."""
    return Office(office.journal, office.models)


async def test_what_was_under_way_goes_on_in_order(office: Office) -> None:
    """What had begun continues after its last finished step, and what was waiting comes after it."""
    first, _ = await begun(office)
    second, _ = await office.start(QueryOptions(("8",)))
    await office.die()
    assert [office.state(each) for each in (first, second)] == ["running", "running"]
    after = next_daemon(office)
    await after.queries.resume()
    assert [after.state(each) for each in (first, second)] == ["resumed", "resumed"]
    watched = [after.queries.watch(each) for each in (first, second)]
    after.student.go.set()
    assert [(await end_of(events)).error for events in watched] == [None, None]
    assert after.student.begun_with == [(first, ("probe", "collect")), (second, ())]
    assert after.student.most_running == 1
    assert [after.state(each) for each in (first, second)] == ["accepted", "accepted"]


async def test_options_and_seed_are_those_of_the_beginning(office: Office) -> None:
    """Whatever node.toml says by now."""
    options = QueryOptions(("7", "8"), medium="moments", deadline_seconds=5.5, seed=9, light=True, trial=True)
    query_id, _ = await office.start(options)
    await office.student.begun.wait()
    await office.die()
    after = next_daemon(office)
    await after.queries.resume()
    after.student.go.set()
    data = (await end_of(after.queries.watch(query_id))).data
    assert (data["classes"], data["mode"], data["seed"]) == (["7", "8"], "light", 9)


async def test_a_query_that_takes_the_daemon_down_is_given_up(office: Office) -> None:
    """After so many attempts without a finished step; those that wait behind it are not counted."""
    office.student.finishes = False
    first, _ = await begun(office)
    second, _ = await office.start(QueryOptions(("8",)))
    for attempt in range(1, MAX_ATTEMPTS):
        await office.die()
        assert office.record(first).attempts == attempt
        office = next_daemon(office)
        office.student.finishes = False
        await office.queries.resume()
        await office.student.begun.wait()
    await office.die()
    office = next_daemon(office)
    await office.queries.resume()
    assert [office.state(each) for each in (first, second)] == ["interrupted", "resumed"]
    ended = await end_of(office.queries.watch(first))
    assert ended.error is not None
    assert "the daemon ended 3 times in step phase1 of it" in ended.error.message
    assert ended.error.fix == "qkt-node query --classes 7"
    assert ended.data["reason"] == ended.error.message
    office.student.go.set()
    assert (await end_of(office.queries.watch(second))).error is None


async def test_a_finished_step_is_worth_new_attempts(office: Office) -> None:
    """A query is killed at each of its steps, and still comes to its end."""
    query_id, _ = await begun(office)
    for _ in range(2 * MAX_ATTEMPTS):
        await office.die()
        office = next_daemon(office)
        await office.queries.resume()
        await office.student.begun.wait()
        assert office.record(query_id).attempts == 1
    office.student.go.set()
    assert (await end_of(office.queries.watch(query_id))).error is None


def adopted(query_id: QueryId) -> ModelRecord:
    return ModelRecord(2, 1, 1.0, (ClassName("7"),), query_id, "v0002.safetensors", "", "{}")


@pytest.mark.parametrize("change", ["model", "data", "kept", "format"])
async def test_what_cannot_go_on_is_interrupted(office: Office, change: str) -> None:
    """The owner finds out why, and nothing is left behind; only its own adoption changes a query's model."""
    query_id, _ = await begun(office)
    await office.die()
    after = next_daemon(office)
    kept = json.loads(office.record(query_id).kept_json)
    match change:
        case "model":
            after.profile.model = replace(after.profile.model, version=2)
            why = "it began with model version 1, and the node has version 2 now"
        case "data":
            after.profile.model = replace(after.profile.model, local=(ClassName("7"),))
            why = "already knows 7 well"
        case "kept":
            office.journal.keep_query(query_id, "", step_finished=False)
            why = "what was kept is no JSON of this software"
        case _:
            office.journal.keep_query(query_id, json.dumps({**kept, "format": 2}), step_finished=False)
            why = "format 2, this software knows 1"
    await after.queries.resume()
    assert (after.state(query_id), list(office.models.iterdir())) == ("interrupted", [])
    ended = await end_of(after.queries.watch(query_id))
    assert ended.error is not None
    assert why in ended.error.message
    assert ended.data["classes"] == ["7"]
    await after.queries.resume()
    assert await after.queries.cancel(query_id) == "interrupted"


async def test_what_cannot_go_on_holds_up_nobody(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end is recorded, and what it received removed, on another thread; the others go on meanwhile."""
    query_id, _ = await begun(office)
    other, _ = await office.start(QueryOptions(("8",)))
    await office.die()
    office.journal.keep_query(query_id, "", step_finished=False)
    after = next_daemon(office)
    drop, threads = after.journal.drop_responses, list[threading.Thread]()

    def watched(ended: QueryId) -> None:
        threads.append(threading.current_thread())
        assert after.queries.is_under_way(other)
        drop(ended)

    monkeypatch.setattr(after.journal, "drop_responses", watched)
    await after.queries.resume()
    assert (after.state(query_id), len(threads)) == ("interrupted", 1)
    assert threads[0] is not threading.main_thread()


async def test_a_query_whose_model_was_adopted_only_ends(office: Office) -> None:
    """The daemon died between the adoption and the record of the end."""
    query_id, _ = await begun(office)
    await office.die()
    office.journal.add_model(adopted(query_id))
    after = next_daemon(office)
    after.profile.model = replace(after.profile.model, version=2)
    await after.queries.resume()
    after.student.go.set()
    assert (await end_of(after.queries.watch(query_id))).error is None


@pytest.mark.parametrize("lost", ["nothing", "a chunk", "the offer", "a chunk of one who is not used"])
async def test_what_the_disk_lost_is_collected_again(office: Office, tmp_path: Path, lost: str) -> None:
    """As after a power cut; where all is there the query goes on with it."""
    query_id, _ = await begun(office)
    await office.die()
    peer, data = PeerId("a" * 52), b"chunk"
    outcome = decode_kept(office.record(query_id).kept_json).outcome
    outcome.teachers[peer] = TeacherOutcome(
        peer, "teacher", classes=outcome.query.classes, used="not used" not in lost
    )
    office.journal.keep_query(query_id, encode_kept(KeptQuery(outcome, 1)), step_finished=False)
    if lost != "the offer":
        digest = chunk_digest(data)
        offer = TeachOffer("moments", 1, outcome.query.classes, (ChunkInfo(digest, len(data), 1),))
        office.journal.save_offer(query_id, peer, offer)
        office.journal.save_chunks(query_id, peer, [(digest, Chunk(0, data))])
    if "a chunk" in lost:
        (tmp_path / "state.sqlite-chunks" / f"query-{query_id}").write_bytes(bytes(len(data)))
    with closing(Journal(tmp_path / "state.sqlite")) as journal:
        after = Office(journal, office.models)
        await after.queries.resume()
        after.student.go.set()
        assert (await end_of(after.queries.watch(query_id))).error is None
    finished = () if lost in {"a chunk", "the offer"} else ("probe", "collect")
    assert after.student.begun_with == [(query_id, finished)]
    assert list((tmp_path / "state.sqlite-chunks").iterdir()) == []


async def test_stopping_leaves_queries_to_the_next_daemon(office: Office) -> None:
    """Whoever watches is told how to go on, and a stop does not count as an attempt that failed."""
    first, events = await begun(office)
    second, waiting = await office.start(QueryOptions(("8",)))
    await office.queries.stop()
    for query_id, told in ((first, events), (second, waiting)):
        ended = await end_of(told)
        assert isinstance(ended.error, NotRunningError)
        home = office.models.parent
        assert ended.error.fix == (
            f"qkt-node start --home {home}, then qkt-node queries watch {query_id} --home {home}"
        )
        record = office.record(query_id)
        assert (record.state, record.attempts, record.result_json) == ("running", 0, "")
    assert [path.name for path in office.models.iterdir()] == [candidate_file(first, "phase1")]
    await office.queries.stop()
    after = next_daemon(office)
    after.student.go.set()
    await after.queries.resume()
    for query_id in (first, second):
        assert (await end_of(after.queries.watch(query_id))).error is None


@pytest.mark.parametrize("closed", [False, True])
async def test_an_adoption_that_a_stop_cuts_off_goes_on(
    office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: bool
) -> None:
    """It takes longer than a drain waits: the worker is ended, and then the journal is closed."""
    monkeypatch.setattr("qkt_node.queries.DRAIN_SECONDS", 0.0)
    going_on = asyncio.Event()

    async def adopting() -> None:
        while not going_on.is_set():
            with suppress(asyncio.CancelledError):
                await going_on.wait()
        raise QktError("the learning worker was stopped", fix="start the node again")

    monkeypatch.setattr(office.student.go, "wait", adopting)
    query_id, events = await begun(office)
    await office.queries.stop()
    (run,) = office.queries._runs.values()
    if closed:
        office.journal.close()
    going_on.set()
    ended = await end_of(events)
    assert isinstance(ended.error, NotRunningError)
    await run.ended
    with closing(Journal(tmp_path / "state.sqlite")) as journal:
        after = Office(journal, office.models)
        assert (after.state(query_id), after.record(query_id).attempts) == ("running", int(closed))
        assert [path.name for path in office.models.iterdir()] == [candidate_file(query_id, "phase1")]


async def test_what_was_cancelled_stays_cancelled(office: Office) -> None:
    """Though the daemon stops before it is recorded."""
    query_id, events = await begun(office)
    office.queries._runs[query_id].cancel()
    await office.queries.stop()
    assert office.state(query_id) == "cancelled"
    assert isinstance((await end_of(events)), Ended)
