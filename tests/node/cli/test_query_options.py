"""What people type as classes and durations, and how a result is shown to them."""

import asyncio
import signal
from dataclasses import replace
from typing import Any, cast

import pytest

from qkt_node.cli.interruption import Interruption
from qkt_node.cli.query import parse_duration, shown_result, split_classes
from qkt_node.cli.tables import Table
from qkt_p2p.errors import UsageError
from qkt_p2p.outcome import QueryOutcome, TeacherOutcome
from qkt_p2p.types import ClassAccuracy, ClassName, PeerId, Query, QueryId


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", 0), ("90", 90), ("1.5s", 1.5), ("2m", 120), (" 1h ", 3600), ("0.25", 0.25), ("1d", 86400)],
)
def test_durations(text: str, seconds: float) -> None:
    """Seconds, minutes and hours; nothing takes the node's own setting."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["soon", "-1s", "1w", "1 2", "0", "0s", "1e3", "٣s", "s", "9" * 400])
def test_no_durations(text: str) -> None:
    """Whatever else is refused with examples."""
    with pytest.raises(UsageError, match="is not a duration") as raised:
        parse_duration(text)
    assert "120s" in raised.value.fix


def test_classes() -> None:
    """Commas separate names, which may hold spaces."""
    assert split_classes("pneumonia, large tumour ,,c") == ("pneumonia", "large tumour", "c")
    with pytest.raises(UsageError, match="names no class"):
        split_classes(" , ")


def outcome() -> QueryOutcome:
    """Return the outcome of a query that two peers were asked for."""
    query = Query(QueryId("0" * 16), (ClassName("7"),), "moments", 1, 10.0)
    used = TeacherOutcome(PeerId("a" * 52), "anna", classes=query.classes, samples=4, bytes=2048, used=True)
    silent = TeacherOutcome(PeerId("b" * 52), "bert")
    return QueryOutcome(query, teachers={used.peer: used, silent.peer: silent})


def test_a_failed_query_is_shown_without_accuracies() -> None:
    """What was not measured is no number, and who was not used is not said to be."""
    teachers, summary = shown_result(outcome().as_data())
    assert isinstance(teachers, Table)
    assert [row[-1] for row in teachers.rows] == ["used", "not asked"]
    assert isinstance(summary, str)
    assert summary.startswith("failed: 7, "), "nothing was measured, so nothing is told of it"


def test_a_teacher_of_which_a_part_came_is_shown_with_the_reason() -> None:
    """The owner sees which class did not come, and why."""
    done = outcome()
    teacher = done.teachers[PeerId("a" * 52)]
    teacher.missing, teacher.reason = (ClassName("9"),), "it went away"
    teachers, _ = shown_result(done.as_data())
    assert isinstance(teachers, Table)
    assert teachers.rows[0][-1] == "used, but 9 did not come: it went away"


def test_an_accepted_query_is_shown_with_its_report() -> None:
    """Accuracies before and after, on what they were measured, the gate's words, and where the report is."""
    done = outcome()
    done.outcome, done.reason = "accepted", "learned, but who knows"
    done.accuracy = (ClassAccuracy(ClassName("7"), 0.0, 0.9772, "evaluation", asked=True),)
    shown = shown_result({**done.as_data(), "report": "r.html"})
    assert isinstance(shown[0], Table)
    assert list(shown[0].rows) == [["7", "asked", "0.0 %", "97.7 %", "evaluation"]]
    assert shown[-2:] == ["gate: learned, but who knows", "report: r.html"]


@pytest.mark.parametrize("trial", [False, True])
def test_an_accepted_trial_is_told_from_an_update(trial: bool) -> None:
    """The same words for both would promise a model that there is not."""
    done = outcome()
    done.outcome, done.query = "accepted", replace(done.query, trial=trial)
    summary = shown_result(done.as_data())[-2]
    assert isinstance(summary, str)
    assert summary.startswith("accepted in a trial, the old model stays: 7" if trial else "accepted: 7")


class StandInClient:
    """Notes what is cancelled."""

    def __init__(self) -> None:
        self.cancelled: list[str] = []
        self.heard = asyncio.Event()

    async def cancel_query(self, query_id: str) -> str:
        """Note it."""
        self.cancelled.append(query_id)
        self.heard.set()
        return "cancelled"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_one_signal_cancels_the_query(number: signal.Signals) -> None:
    """The daemon is asked once, and the block goes on to hear how the query ends."""
    client = StandInClient()
    async with Interruption(cast("Any", client)) as interruption:
        interruption.begun("one")
        signal.raise_signal(number)
        await client.heard.wait()
    assert client.cancelled == ["one"]


async def test_a_signal_before_the_query_has_a_name() -> None:
    """It is cancelled as soon as it has one."""
    client = StandInClient()
    async with Interruption(cast("Any", client)) as interruption:
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(0)
        assert client.cancelled == []
        interruption.begun("late")
        await client.heard.wait()
    assert client.cancelled == ["late"]


async def test_a_second_signal_leaves_the_block() -> None:
    """Whoever insists does not wait for the daemon."""
    client = StandInClient()

    async def wait_for_ever() -> None:
        async with Interruption(cast("Any", client)) as interruption:
            interruption.begun("one")
            signal.raise_signal(signal.SIGINT)
            await client.heard.wait()
            signal.raise_signal(signal.SIGINT)
            await asyncio.get_running_loop().create_future()

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(wait_for_ever())


def test_what_peers_spent_is_shown() -> None:
    """By name, of those whose answers carry noise."""
    done, peer = outcome(), PeerId("b" * 52)
    assert not any("privacy" in str(each) for each in shown_result(done.as_data()))
    done.teachers[peer] = TeacherOutcome(peer, "vet", chunks=1, epsilon=2.0)
    assert "privacy: with noise, epsilon by peer: vet 2" in shown_result(done.as_data())


def test_a_spent_budget_is_told_of_a_teacher_that_is_used_all_the_same() -> None:
    """Of the classes that it withheld."""
    peer = PeerId("b" * 52)
    teacher = TeacherOutcome(peer, "vet", used=True, withheld=(ClassName("cat"), ClassName("dog")))
    done = outcome()
    done.teachers[peer] = teacher
    table = shown_result(done.as_data())[0]
    assert isinstance(table, Table)
    assert table.rows[-1][-1] == "used, but its privacy budget of cat, dog is spent"
