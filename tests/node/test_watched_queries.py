"""Who hears how a query goes: several at once, late ones, those who do not listen, and owners of tokens."""

from __future__ import annotations

import pytest

from qkt_node import audience
from qkt_node.audience import Audience
from qkt_node.events import Ended, QueryOptions, Started
from qkt_p2p.errors import QktError, UpdateRefusedError, UsageError
from qkt_p2p.types import Progress, QueryId
from tests.node.office import Office, end_of, refused

QUERY_ID = QueryId("0" * 16)
END = Ended({"outcome": "accepted"}, None)


async def test_all_who_watch_hear_the_same_end(office: Office) -> None:
    """One who comes late hears the step at hand first, and one who leaves does not end the query."""
    query_id, first = await office.start()
    await office.student.begun.wait()
    late, leaving = office.queries.watch(query_id), office.queries.watch(query_id)
    assert [await anext(late), await anext(late)] == [
        Started(query_id),
        Progress("phase1", 0, 0, "started"),
    ]
    await anext(leaving)
    await leaving.aclose()
    office.student.go.set()
    assert await end_of(first) == await end_of(late)
    assert office.state(query_id) == "accepted"


async def test_who_comes_after_the_end_hears_it(office: Office) -> None:
    """With the very error that was told then, and the data that were recorded."""
    office.student.ending = refused
    office.student.go.set()
    query_id, events = await office.start()
    told = await end_of(events)
    after = await end_of(office.queries.watch(query_id))
    assert after.data == told.data
    assert isinstance(after.error, UpdateRefusedError)
    assert (after.error.message, after.error.fix) == (told.error.message, told.error.fix)  # type: ignore[union-attr]
    with pytest.raises(UsageError, match="there is no query 'nonsense'"):
        office.queries.watch(QueryId("nonsense"))


async def test_the_end_of_a_query_of_an_earlier_version(office: Office) -> None:
    """Its journal did not keep the error; that it was not accepted is told all the same."""
    query_id, _ = await office.start()
    await office.die()
    office.journal.finish_query(query_id, "interrupted", "")
    ended = await end_of(office.queries.watch(query_id))
    assert (ended.data, type(ended.error)) == ({}, QktError)


async def test_who_does_not_listen_takes_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest events go, never the beginning or the end."""
    monkeypatch.setattr(audience, "MAX_UNHEARD", 3)
    told, deaf = Audience(QUERY_ID), Audience(QUERY_ID).watch()
    slow = told.watch()
    for number in range(10):
        told.tell(Progress("phase1", number, 10, ""))
    told.tell(END)
    heard = [event async for event in slow]
    assert heard == [Started(QUERY_ID), Progress("phase1", 8, 10, ""), Progress("phase1", 9, 10, ""), END]
    await deaf.aclose()


TOKEN = QueryOptions(("7", "8"), seed=3, token="monday")


async def test_the_same_token_is_the_same_query(office: Office) -> None:
    """While it runs, after it ended, and for a later daemon; nothing is asked again."""
    query_id, first = await office.start(TOKEN)
    again_id, again = await office.start(TOKEN)
    assert again_id == query_id
    office.student.go.set()
    assert await end_of(first) == await end_of(again)
    later = Office(office.journal, office.models)
    later_id, recorded = await later.start(TOKEN)
    assert (later_id, (await end_of(recorded)).data["outcome"]) == (query_id, "accepted")
    assert len(office.journal.query_records()) == 1


async def test_a_token_with_other_options_is_refused(office: Office) -> None:
    """The error names all that differs, as people type it."""
    query_id, events = await office.start(TOKEN)
    other = QueryOptions(("7",), seed=3, deadline_seconds=60.0, light=True, token="monday")
    with pytest.raises(UsageError) as raised:
        office.queries.start(other)
    assert raised.value.message == (
        f"the token 'monday' is that of query {query_id}, where --classes was 7,8 and is 7, "
        "--deadline was not given and is 60.0, --light was not given and is True"
    )
    office.student.go.set()
    await end_of(events)


async def test_other_tokens_are_other_queries(office: Office) -> None:
    """So are queries without any; a token that is none is refused before anything begins."""
    office.student.go.set()
    options = [
        TOKEN,
        QueryOptions(("7", "8"), seed=3, token="tuesday"),
        QueryOptions(("7",)),
        QueryOptions(("7",)),
    ]
    started = [await office.start(each) for each in options]
    assert len({query_id for query_id, _ in started}) == 4
    for _, events in started:
        await end_of(events)
    for token in ("x" * 65, "two\nlines"):
        with pytest.raises(UsageError, match="is no token"):
            office.queries.start(QueryOptions(("7",), token=token))
    assert len(office.journal.query_records()) == 4
