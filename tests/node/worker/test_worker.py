"""The daemon's side of a worker process, against a stand-in that answers, fails, hangs or dies on demand."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from pydantic import TypeAdapter
from structlog.testing import capture_logs

from qkt_node.home import Home
from qkt_node.learning import WorkerLearner
from qkt_node.profile import Profile
from qkt_node.settings import NodeConfig, NodeSection
from qkt_node.worker.client import Worker
from qkt_node.worker.operations import Operation
from qkt_p2p.errors import ConfigError, QktError, WorkerDiedError
from qkt_p2p.types import ClassName, LearningTask, Query, QueryId

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from qkt_node.worker.operations import Lane
    from qkt_p2p.types import Progress

QUERY = Query(QueryId("0" * 16), (ClassName("7"),), "moments", 1, 10.0)
TASK = LearningTask(QUERY, {}, "moments")
STAND_IN = (sys.executable, str(Path(__file__).with_name("stand_in.py")))


def unheard(progress: Progress) -> None:
    """Leave progress alone."""


def operation(name: str, lane: Lane = "learn") -> Operation[str, str]:
    """Return an operation on texts."""
    text: TypeAdapter[str] = TypeAdapter(str)
    return Operation(name, lane, text, text)


def worker_on(home: Path, **settings: Any) -> Worker:
    """Return a worker whose process is the stand-in."""
    return Worker(Home(home), NodeConfig(node=NodeSection(**settings)), program=STAND_IN)


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[Worker]:
    """A worker that is stopped at the end."""
    made = worker_on(tmp_path)
    yield made
    await made.stop()


def processes() -> list[psutil.Process]:
    """Return the stand-ins that run; other tests have children of their own."""
    return [child for child in psutil.Process().children() if STAND_IN[1] in child.cmdline()]


async def begin(worker: Worker, name: str, lane: Lane = "learn") -> asyncio.Task[str]:
    """Return a call that the process has begun to answer."""
    begun = asyncio.Event()
    call = asyncio.create_task(worker.call(operation(name, lane), "", lambda _: begun.set()))
    await begun.wait()
    return call


async def test_a_call_starts_the_process_and_returns_its_result(worker: Worker) -> None:
    """The first call starts a process, the second one uses it; progress is heard on the way."""
    heard: list[Progress] = []
    assert worker.state == "stopped"
    assert await worker.call(operation("echo"), "ünï", heard.append) == "ünï"
    assert [(event.step, event.done, event.message) for event in heard] == [("s", 1, "half")]
    assert worker.state == "idle"
    first: str = await worker.call(operation("environment"), "")
    second: str = await worker.call(operation("environment"), "")
    assert json.loads(first)["pid"] == json.loads(second)["pid"]


async def test_an_error_arrives_as_itself(worker: Worker) -> None:
    """What the operation raised is raised again, with its fix; the process goes on."""
    with pytest.raises(ConfigError, match="no data") as raised:
        await worker.call(operation("fail"), "")
    assert raised.value.fix == "get some"
    assert await worker.call(operation("echo"), "again") == "again"


@pytest.mark.parametrize(("name", "how"), [("crash", "exit code 7"), ("babble", "signal 9")])
async def test_calls_in_flight_fail_with_their_process(worker: Worker, name: str, how: str) -> None:
    """A process that dies, or says what cannot be read, fails its calls; the next call gets a new one."""
    other = await begin(worker, "hang")
    with pytest.raises(WorkerDiedError, match=how):
        await worker.call(operation(name), "")
    with pytest.raises(QktError, match="the learning worker died"):
        await other
    assert worker.state == "stopped"
    assert await worker.call(operation("echo"), "new") == "new"


async def test_an_answer_of_another_kind_is_an_error_of_ours(worker: Worker) -> None:
    """A worker of another version names the operation, not a library; it may be asked again."""
    number: TypeAdapter[int] = TypeAdapter(int)
    wrong = Operation("echo", "learn", TypeAdapter(str), number)
    with pytest.raises(
        QktError, match="the learning worker's answer to echo is not as expected: all of it"
    ) as raised:
        await worker.call(wrong, "no number")
    assert "one version" in raised.value.fix
    assert worker.state == "idle"
    assert await worker.call(wrong, "7") == 7


@pytest.mark.parametrize("crashes", [0, 1])
async def test_a_learning_step_outlives_its_worker(worker: Worker, tmp_path: Path, crashes: int) -> None:
    """Another process takes the step once more, and its result is the step's."""
    learner = WorkerLearner(worker, Profile("node"))
    for _ in range(2):
        (tmp_path / "crashes").write_text(str(crashes))
        assert await learner.stem("features", unheard) == b"stem"
        (tmp_path / "crashes").write_text(str(crashes))
        await learner.phase1(TASK, unheard)
        (tmp_path / "crashes").write_text(str(crashes))
        assert await learner.preferred_media() == ("moments", "features")
    assert worker.state == "idle"


async def test_a_learning_step_that_kills_each_worker_fails(worker: Worker, tmp_path: Path) -> None:
    """Once more, and no oftener: a step may need more memory than there is."""
    (tmp_path / "crashes").write_text("3")
    with pytest.raises(WorkerDiedError, match="exit code 7"):
        await WorkerLearner(worker, Profile("node")).phase1(TASK, unheard)
    assert (tmp_path / "crashes").read_text() == "1"


async def test_cancelling_a_call_cancels_the_operation(worker: Worker) -> None:
    """A process that listens goes on with its other work."""
    call = await begin(worker, "obey")
    assert worker.state == "busy"
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert worker.state == "idle"


async def test_a_process_that_ignores_a_cancellation_is_killed(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is gone when the cancelled call returns, and the next call does not meet it."""
    monkeypatch.setattr("qkt_node.worker.child.CANCEL_SECONDS", 0.01)
    call = await begin(worker, "hang")
    process = processes()[0]
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not process.is_running()
    assert worker.state == "stopped"
    assert await worker.call(operation("echo"), "new") == "new"


@pytest.mark.parametrize("lane", ["probe", "serve", "learn"])
async def test_what_was_given_up_costs_the_owners_learning_nothing(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, lane: Lane
) -> None:
    """A peer that hangs up, or a teacher that is cut: the operation runs out, and nobody hears of it."""
    monkeypatch.setattr("qkt_node.worker.child.CANCEL_SECONDS", 0.01)
    step = await begin(worker, "hang")
    deaf = await begin(worker, "hang", lane)
    process = processes()[0]
    deaf.cancel()
    with pytest.raises(asyncio.CancelledError):
        await deaf
    assert worker.state == "busy"
    assert await worker.call(operation("release"), "2") == "released"
    assert (process.is_running(), step.done()) == (True, False)
    step.cancel()
    with pytest.raises(asyncio.CancelledError):
        await step
    assert not process.is_running()


async def test_what_the_owner_gives_up_ends_whatever_peers_ask(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process is gone at once; another one answers the peer, who hears nothing of it."""
    monkeypatch.setattr("qkt_node.worker.child.CANCEL_SECONDS", 0.01)
    asked = await begin(worker, "again", "serve")
    step = await begin(worker, "hang")
    process = processes()[0]
    step.cancel()
    with pytest.raises(asyncio.CancelledError):
        await step
    assert not process.is_running()
    assert await asked == "bank"


async def test_two_operations_that_are_given_up_end_together(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither keeps the process alive for the other."""
    monkeypatch.setattr("qkt_node.worker.child.CANCEL_SECONDS", 0.01)
    calls = [await begin(worker, "hang", "serve"), await begin(worker, "hang")]
    process = processes()[0]
    for call in calls:
        call.cancel()
    for call in calls:
        with pytest.raises(asyncio.CancelledError):
            await call
    assert not process.is_running()


async def test_an_idle_process_ends(tmp_path: Path) -> None:
    """After the idle seconds it ends by itself, without being killed."""
    worker = worker_on(tmp_path, worker_idle_seconds=0.001)
    assert await worker.call(operation("echo"), "one") == "one"
    assert worker._child is not None
    await worker._child.ended
    assert worker.state == "stopped"
    assert not processes()
    await worker.stop()


async def test_a_retired_process_does_no_harm_to_its_successor(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls on a new process do not fail when the retired one has ended."""
    monkeypatch.setattr("qkt_node.worker.child.CANCEL_SECONDS", 0.01)
    await worker.call(operation("echo"), "one")
    assert worker._child is not None
    retired = worker._child.ended
    worker._retire()
    call = await begin(worker, "hang")
    await retired
    assert not call.done()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_a_stopped_worker_leaves_no_process(worker: Worker) -> None:
    """Stopping fails what is in flight, may be repeated, and waits for the process."""
    call = await begin(worker, "hang")
    await worker.stop()
    await worker.stop()
    assert not processes()
    with pytest.raises(QktError, match="was stopped") as raised:
        await call
    assert not isinstance(raised.value, WorkerDiedError)


async def test_warming_starts_the_process_once(worker: Worker) -> None:
    """Two that want it at the same time get the same one."""
    with capture_logs() as logs:
        await asyncio.gather(worker.warm(), worker.warm())
    assert worker.state == "idle"
    # Not by its command line, which is empty for a moment after the start.
    assert [entry["event"] for entry in logs] == ["worker_started"]


@pytest.mark.parametrize(("threads", "told"), [(0, ""), (3, "3")])
async def test_the_environment_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int, told: str
) -> None:
    """Threads are limited only where the owner says so, and temporary files stay in the home."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    worker = worker_on(tmp_path, threads=threads)
    answer: str = await worker.call(operation("environment"), "")
    await worker.stop()
    found = json.loads(answer)
    assert (found["home"], found["TMPDIR"]) == (str(tmp_path), str(tmp_path / "tmp"))
    assert found["OMP_NUM_THREADS"] == told


async def test_a_program_that_cannot_be_started(tmp_path: Path) -> None:
    """The call fails with a reason, and a later one may try again."""
    worker = Worker(Home(tmp_path), NodeConfig(), program=(str(tmp_path / "missing"),))
    for _ in range(2):
        with pytest.raises(QktError, match="cannot start the learning worker: No such file"):
            await worker.call(operation("echo"), "")
    assert worker.state == "stopped"
