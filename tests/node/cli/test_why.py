"""`why` explains a query by what the journal holds of it, and invents nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from qkt_node.cli import queries
from qkt_node.cli.main import main
from qkt_p2p.outcome import QueryOutcome, TeacherOutcome
from qkt_p2p.pb import control_pb2 as pb
from qkt_p2p.types import ClassAccuracy, ClassName, PeerId, Query, QueryId

SEVEN, EIGHT = ClassName("7"), ClassName("8")
Explain = Callable[..., dict[str, Any]]


def outcome() -> QueryOutcome:
    """Return a query that one of three peers taught: another knows less, a third was away."""
    query = Query(QueryId("0" * 16), (SEVEN,), "moments", 1, 10.0)
    anna = TeacherOutcome(PeerId("a" * 52), "anna", {SEVEN: 0.97, EIGHT: 0.1}, classes=(SEVEN,), used=True)
    anna.bytes, anna.weight = 2048, 1.0
    bert = TeacherOutcome(PeerId("b" * 52), "bert", {SEVEN: 0.2}, reason="teaches none of the classes wanted")
    carl = TeacherOutcome(PeerId("c" * 52), "carl", reason="did not answer")
    done = QueryOutcome(query, teachers={each.peer: each for each in (anna, bert, carl)})
    done.outcome, done.verdict, done.reason = "accepted", "accepted", "learned, and nothing forgotten"
    done.medium, done.bytes_sent, done.bytes_received = "moments", 512, 2560
    done.seconds = {"probe": 0.5, "collect": 2.0}
    done.accuracy = (
        ClassAccuracy(SEVEN, 0.0, 0.9, "evaluation", asked=True),
        ClassAccuracy(EIGHT, 0.95, 0.94, "evaluation", asked=False),
    )
    return done


@pytest.fixture
def explain(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Explain:
    """Return the data of `why` for a query that ended so, or runs."""

    def explained(state: str, result: QueryOutcome | None, step: str = "") -> dict[str, Any]:
        found = pb.QuerySummary(query_id="0" * 16, classes=["7"], state=state, started_at=5.0, step=step)
        if result is not None:
            found.result_json = json.dumps(result.as_data())
        monkeypatch.setattr(queries, "ask_daemon", lambda *_: pb.ListQueriesResponse(queries=[found]))
        assert main(["why", "0" * 16, "--home", "x"]) == 0
        shown = capsys.readouterr().err
        assert main(["why", "0" * 16, "--home", "x", "--format", "json"]) == 0
        data: dict[str, Any] = json.loads(capsys.readouterr().out)["data"]
        assert all(sentence in shown for sentence in data["explanation"])
        return data

    return explained


def test_an_accepted_query(explain: Explain) -> None:
    """Who was used and why not, what the gate measured, where time and bytes went."""
    data = explain("accepted", outcome())
    verdict, asked, gate, cost = data["explanation"]
    assert "learned “7” from 1 peer" in verdict
    assert asked == (
        "It was asked by QKT, in the medium moments. Of 3 live peers 1 showed evidence of 0.3 or more of "
        "what was asked for, and 1 is used."
    )
    assert gate == (
        "The validation gate said: learned, and nothing forgotten; "
        "what was asked for changed by +90 points on average, "
        "own classes changed by \N{MINUS SIGN}1 points on average."
    )
    assert cost == (
        "It took 2.5 s, most of it in collect (2.0 s); 2.5 KiB came and 512 B went, most from anna (2 KiB)."
    )
    told = [(each["name"], each["evidence"], each["mask"], each["why"]) for each in data["teachers"]]
    assert told == [
        ("anna", {"7": 0.97}, ["7"], "used"),
        ("bert", {"7": 0.2}, [], "teaches none of the classes wanted"),
        ("carl", {"7": None}, [], "did not answer"),
    ]
    assert (data["gate"]["outcome"], data["seconds"]["collect"], data["quorum"]["asked"]) == (
        "accepted",
        2.0,
        1,
    )


def test_a_query_that_failed_after_the_gate(explain: Explain) -> None:
    """What it failed of is not what the gate said."""
    done = outcome()
    done.outcome, done.reason = "failed", "the disk is full"
    verdict, _, gate, _ = explain("failed", done)["explanation"]
    assert "could not learn “7”: the disk is full" in verdict
    assert gate.startswith("The query failed after the validation gate; what was asked for changed by +90 ")


def test_a_query_that_found_nobody(explain: Explain) -> None:
    """Then the gate measured nothing, and no step took longer than another."""
    query = Query(QueryId("0" * 16), (SEVEN,), "", 1, 10.0)
    data = explain("failed", QueryOutcome(query, reason="there is no live peer to ask"))
    verdict, asked, gate, cost = data["explanation"]
    assert "could not learn “7”: there is no live peer to ask" in verdict
    assert asked.endswith("no medium was chosen. No live peer was there to ask.")
    assert gate == "The validation gate measured nothing: the query ended before it."
    assert cost == "It ended at once; 0 B came and 0 B went."
    assert data["teachers"] == []


def test_a_query_under_way(explain: Explain) -> None:
    """Nothing is said about what is not decided."""
    data = explain("running", None, "collect")
    assert data["explanation"] == ["The query for 7 is running, in the step collect: nothing is decided yet."]
    assert "teachers" not in data
    assert (data["state"], data["query_id"]) == ("running", "0" * 16)
