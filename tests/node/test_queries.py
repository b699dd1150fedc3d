"""How queries of one node run, end and are recorded, whatever happens to them; nothing is learned here."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import pytest

from qkt_node.events import QueryOptions
from qkt_p2p.discovery import Conduct, FoundBy, Member, MemberState
from qkt_p2p.errors import ConfigError, NotTrustedError, QktError, UpdateRefusedError, UsageError
from qkt_p2p.outcome import QueryOutcome, TeacherOutcome
from qkt_p2p.types import ClassName, NodeDescription, Progress, QueryId
from tests.node.office import OPTIONS, Office, end_of, refused

if TYPE_CHECKING:
    from qkt_p2p.types import PeerId


async def test_a_query_is_told_and_recorded_from_its_beginning_to_its_end(office: Office) -> None:
    """What the owner is told last is what the journal keeps, and nothing is left in models/."""
    query_id, events = await office.start()
    await office.student.begun.wait()
    assert office.state(query_id) == "running"
    office.student.go.set()
    ended = await end_of(events)
    record = office.journal.query_record(query_id)
    assert record is not None
    assert (record.state, record.step, json.loads(record.result_json)) == ("accepted", "phase1", ended.data)
    assert ended.error is None
    assert ended.data["report"] == f"{query_id}.html"
    assert (ended.data["node_name"], "torch" in ended.data["versions"]) == ("node", True)
    assert list(office.models.iterdir()) == []


async def test_nobody_is_asked_where_no_peer_takes_this_nodes_certificate(office: Office) -> None:
    """The owner is told so at once, and with a token the query can be asked again once that is mended."""
    office.standing.problem = NotTrustedError("this node's certificate expired", fix="qkt-node join")
    options = QueryOptions(classes=("7",), token="tonight")
    with pytest.raises(NotTrustedError, match="this node's certificate expired"):
        await office.start(options)
    assert office.journal.query_records() == []
    office.standing.problem = None
    office.student.go.set()
    _, events = await office.start(options)
    assert (await end_of(events)).error is None


async def test_a_query_whose_node_expired_while_it_waited(office: Office) -> None:
    """It fails with that reason instead of waiting for peers."""
    _, first = await office.start()
    await office.student.begun.wait()
    second_id, second = await office.start()
    office.standing.problem = NotTrustedError("this node's certificate expired", fix="qkt-node join")
    office.student.go.set()
    assert (await end_of(first)).error is None
    error = (await end_of(second)).error
    assert error is not None
    assert (error.code, error.fix, office.state(second_id)) == ("not-trusted", "qkt-node join", "failed")


async def test_one_at_a_time(office: Office) -> None:
    """A second query waits for the first one's end, and says so."""
    _, first = await office.start()
    await office.student.begun.wait()
    _, second = await office.start()
    waiting = await anext(second)
    assert isinstance(waiting, Progress)
    assert waiting.message == "waiting for an earlier query to end"
    office.student.go.set()
    assert [(await end_of(events)).error for events in (first, second)] == [None, None]
    assert office.student.most_running == 1


async def test_cancelling_what_waits_leaves_what_runs(office: Office) -> None:
    """A query that waits ends as cancelled, at once, without a report."""
    first_id, first = await office.start()
    await office.student.begun.wait()
    second_id, second = await office.start()
    assert await office.queries.cancel(second_id) == "cancelled"
    ended = await end_of(second)
    assert ended.error is not None
    assert (ended.error.code, office.state(second_id)) == ("cancelled", "cancelled")
    assert ended.data["report"] == ""
    assert office.state(first_id) == "running"
    office.student.go.set()
    assert (await end_of(first)).error is None


async def test_cancelling_what_runs(office: Office) -> None:
    """A running query ends as cancelled, and its candidate is removed; cancelling again changes nothing."""
    query_id, events = await office.start()
    await office.student.begun.wait()
    assert await office.queries.cancel(query_id) == "cancelled"
    ended = await end_of(events)
    assert ended.error is not None
    assert (ended.error.exit_code, ended.data["outcome"]) == (130, "failed")
    assert list(office.models.iterdir()) == []
    assert await office.queries.cancel(query_id) == "cancelled"
    with pytest.raises(UsageError, match="there is no query 'ffff"):
        await office.queries.cancel(QueryId("f" * 16))


async def test_cancelling_a_report_keeps_what_was_learned(office: Office) -> None:
    """The model was adopted already: the query counts as accepted, only its report is missing."""
    office.worker.finish.clear()
    office.student.go.set()
    query_id, events = await office.start()
    await office.worker.reporting.wait()
    assert await office.queries.cancel(query_id) == "accepted"
    ended = await end_of(events)
    assert (ended.error, ended.data["outcome"], ended.data["report"]) == (None, "accepted", "")
    assert office.state(query_id) == "accepted"


async def test_a_report_that_fails_does_not_fail_the_query(office: Office) -> None:
    """The query's result is told without a report."""
    office.worker.error = QktError("no space")
    office.student.go.set()
    query_id, events = await office.start()
    ended = await end_of(events)
    assert (ended.error, ended.data["report"], office.state(query_id)) == (None, "", "accepted")


@pytest.mark.parametrize(
    ("failure", "code", "message"),
    [
        (ConfigError("no data"), "config", "no data"),
        (ZeroDivisionError("by zero"), "failed", "the query failed: ZeroDivisionError('by zero')"),
    ],
)
async def test_a_query_that_fails(office: Office, failure: Exception, code: str, message: str) -> None:
    """The error is the owner's, and the reason in the result and in the journal."""

    def fail(outcome: QueryOutcome) -> None:
        outcome.outcome = "failed"
        raise failure

    office.student.ending = fail
    office.student.go.set()
    query_id, events = await office.start()
    ended = await end_of(events)
    assert ended.error is not None
    assert (ended.error.code, ended.error.message, ended.data["reason"]) == (code, message, message)
    assert office.state(query_id) == "failed"


async def test_a_refused_update(office: Office) -> None:
    """The gate's reason becomes an error with exit code 8; the result has all that was measured."""
    office.student.ending = refused
    office.student.go.set()
    query_id, events = await office.start()
    ended = await end_of(events)
    assert ended.error is not None
    assert (ended.error.exit_code, office.state(query_id)) == (8, "refused")
    assert (ended.error.message, ended.data["reason"]) == (
        "the update was refused: it forgot 3",
        "it forgot 3",
    )


async def test_an_update_that_a_phase_refused(office: Office) -> None:
    """It ends as refused as well, with what to do about it."""

    def refuse(outcome: QueryOutcome) -> None:
        outcome.outcome = "refused"
        raise UpdateRefusedError("nobody teaches 3 now", fix="qkt-node peers")

    office.student.ending = refuse
    office.student.go.set()
    query_id, events = await office.start()
    ended = await end_of(events)
    assert ended.error is not None
    assert (ended.error.exit_code, ended.error.fix) == (8, "qkt-node peers")
    assert (office.state(query_id), ended.data["outcome"]) == ("refused", "refused")
    assert ended.data["reason"] == "nobody teaches 3 now"
    assert ended.data["report"]


async def test_a_journal_that_fails_does_not_keep_the_owner_waiting(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk neither steps nor the end can be recorded; the owner is told the result all the same."""

    def full(*_: object) -> None:
        raise QktError("database or disk is full")

    _, events = await office.start()
    await office.student.begun.wait()
    monkeypatch.setattr(office.journal, "set_query_step", full)
    monkeypatch.setattr(office.journal, "finish_query", full)
    office.student.go.set()
    assert (await end_of(events)).data["outcome"] == "accepted"


async def test_queries_that_are_not_begun(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Own classes need force, and there is a bound; what was refused is not in the journal."""
    with pytest.raises(UsageError, match="already knows 0 well, by data of its own") as caught:
        office.queries.start(QueryOptions(classes=("7", "0", "8")))
    assert caught.value.fix == "ask for 7,8, or add --force"
    with pytest.raises(UsageError, match="already knows 0 well") as caught:
        office.queries.start(QueryOptions(classes=("0",)))
    assert caught.value.fix == "ask for other classes, or add --force"
    monkeypatch.setattr("qkt_node.queries.MAX_WAITING", 1)
    _, events = await office.start(QueryOptions(classes=("0",), force=True))
    with pytest.raises(UsageError, match="1 queries are waiting"):
        office.queries.start(OPTIONS)
    assert len(office.journal.query_records()) == 1
    office.student.go.set()
    await end_of(events)


async def test_a_class_of_few_own_samples_may_be_asked_for(office: Office) -> None:
    """It is not known well, and needs no force; with classes that are, those alone are named."""
    with pytest.raises(UsageError, match="already knows 0 well"):
        office.queries.start(QueryOptions(classes=("0", "3")))
    office.student.go.set()
    _, events = await office.start(QueryOptions(classes=("3",)))
    assert (await end_of(events)).error is None


async def test_a_live_peer_that_was_not_reached_is_named(office: Office) -> None:
    """The result says why it was not asked."""
    peer, node = cast("PeerId", "a" * 52), NodeDescription(0, "away", "", (), (), (), 0)
    member = Member(peer, node, "", FoundBy.INBOUND, MemberState.LIVE, last_seen=0.0, round_trip=0.0)
    office.contacts.missed = [(member, "it did not attach")]
    office.student.go.set()
    _, events = await office.start()
    (missed,) = (await end_of(events)).data["teachers"]
    assert (missed["name"], missed["used"], missed["reason"]) == ("away", False, "it did not attach")


async def test_what_peers_say_they_know_is_told(office: Office) -> None:
    """The more classes there are, the more probes it takes to tell them apart."""
    for name, known in (("a", ("4", "5")), ("b", ("5", "6"))):
        node = NodeDescription(0, name, "", tuple(map(ClassName, known)), (), (), 0)
        peer = cast("PeerId", name * 52)
        member = Member(peer, node, "", FoundBy.INBOUND, MemberState.LIVE, last_seen=0.0, round_trip=0.0)
        office.contacts.reached.append((member, cast("Any", None)))
    office.student.go.set()
    _, events = await office.start()
    await end_of(events)
    assert sorted(office.student.others_know) == ["4", "5", "6"]


async def test_why_nobody_is_reached_is_known_to_the_query(office: Office) -> None:
    """What discovery met reaches whoever says that there is nobody to ask."""
    office.contacts.failures = ("bert:7448: this node is revoked",)
    seen: list[tuple[str, ...]] = []
    office.student.ending = lambda outcome: seen.append(outcome.unreached)
    office.student.go.set()
    _, events = await office.start()
    await end_of(events)
    assert seen == [office.contacts.failures]


async def test_teachers_are_judged_by_what_they_did(office: Office) -> None:
    """Who broke the protocol, who taught, who went away while it taught; others are not judged at all."""
    bad, good, gone, away, busy = (cast("PeerId", letter * 52) for letter in "abcde")

    def ending(outcome: QueryOutcome) -> None:
        outcome.teachers = {
            bad: TeacherOutcome(bad, "bad", misbehaved=True, reason="a chunk came twice"),
            good: TeacherOutcome(good, "good", used=True),
            gone: TeacherOutcome(gone, "gone", vanished=True, attempts=5, reason="nothing arrived"),
            away: TeacherOutcome(away, "away", vanished=True, reason="not reached"),
            busy: TeacherOutcome(busy, "busy", attempts=32, reason="busy"),
        }

    office.student.ending = ending
    office.student.go.set()
    _, events = await office.start()
    await end_of(events)
    assert office.contacts.judged == {
        bad: Conduct.BROKE_PROTOCOL,
        good: Conduct.TAUGHT,
        gone: Conduct.WENT_AWAY,
    }
