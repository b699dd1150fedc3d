"""The owner's line to the daemon: who may use it, and that everything crosses it unchanged."""

from __future__ import annotations

import json
import stat
from contextlib import ExitStack
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from qkt_node.control.client import ControlClient, connect, open_channel
from qkt_node.control.server import ControlServer, ControlServicer
from qkt_node.events import Ended, QueryEvent, QueryOptions, Started
from qkt_node.home import Home, lock_home
from qkt_node.profile import Profile
from qkt_node.serving import Terms
from qkt_node.turns import Caps, Turns
from qkt_node.worker.operations import ModelDifference
from qkt_p2p.discovery import Membership
from qkt_p2p.errors import NotRunningError, QktError, UpdateRefusedError, UsageError
from qkt_p2p.limits import MAX_MESSAGE_BYTES
from qkt_p2p.pb import control_pb2 as pb
from qkt_p2p.store.records import ModelRecord, QueryRecord, RollbackRecord
from qkt_p2p.types import ClassAccuracy, ClassName, PeerId, Progress, QueryId, StudentModel
from tests.node.hosting import Host, StandInWorker

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from pathlib import Path

QUERY_ID = QueryId("0" * 16)
EVENTS: list[QueryEvent] = [
    Started(QUERY_ID),
    Progress("probe", 1.0, 2.0, "ünï answered"),
    Ended({"outcome": "refused", "classes": ["ü"]}, UpdateRefusedError("it forgot 3", fix="ask others")),
]


class StandInQueries:
    """Tells `events` of every query, or raises `error` instead of beginning one."""

    def __init__(self) -> None:
        self.asked: list[QueryOptions] = []
        self.events = EVENTS
        self.error: Exception | None = None
        self.listed = [QueryRecord(QUERY_ID, (ClassName("7"),), "accepted", "", 5.0, result_json="{}")]

    def record(self, query_id: QueryId) -> QueryRecord:
        """Return the one query that there is."""
        self._require(query_id)
        return self.listed[0]

    def records(self) -> list[QueryRecord]:
        """Return all queries."""
        return self.listed

    def start(self, options: QueryOptions) -> AsyncGenerator[QueryEvent]:
        """Begin a query."""
        if self.error is not None:
            raise self.error
        self.asked.append(options)
        return self._told()

    def watch(self, query_id: QueryId) -> AsyncGenerator[QueryEvent]:
        """Tell of the one query that there is."""
        self._require(query_id)
        return self._told()

    async def _told(self) -> AsyncGenerator[QueryEvent]:
        for event in self.events:
            yield event

    def is_under_way(self, query_id: QueryId) -> bool:
        """Tell of the one query that there is."""
        return query_id == QUERY_ID

    async def cancel(self, query_id: QueryId) -> str:
        """Cancel the one query that there is."""
        self._require(query_id)
        return "cancelled"

    def _require(self, query_id: QueryId) -> None:
        if query_id != QUERY_ID:
            raise UsageError("there is no such query", fix="qkt-node queries")


class StandInVersions:
    """Two versions, of which the first is current again."""

    current = 1

    def records(self) -> list[ModelRecord]:
        """Return both."""
        seven = (ClassName("7"),)
        return [ModelRecord(n, n - 1, 5.0, seven, "", f"v000{n}.safetensors", "", "{}") for n in (2, 1)]

    def rollbacks(self) -> list[RollbackRecord]:
        """Return the one time."""
        return [RollbackRecord(6.0, 2, 1)]

    async def roll_back(self, version: int) -> StudentModel:
        """Go back to a version that there is."""
        if version > 2:
            raise UsageError(f"this node has no model version {version}", fix="qkt-node models list")
        return StudentModel(version or 2, (1, 8, 8), (), (ClassName("7"),))

    async def compare(self, before: int, after: int) -> ModelDifference:
        """Compare them."""
        seven, nine = ClassName("7"), ClassName("9")
        accuracy = ClassAccuracy(seven, before / 10, after / 10, "holdout", asked=False)
        return ModelDifference((seven,), (seven, nine), (accuracy,))


@pytest.fixture
def versions() -> StandInVersions:
    return StandInVersions()


@pytest.fixture
def queries() -> StandInQueries:
    return StandInQueries()


@pytest.fixture
async def client(
    tmp_path: Path, queries: StandInQueries, versions: StandInVersions
) -> AsyncIterator[ControlClient]:
    """A client of a control server on a socket whose path has characters that mean something in URIs."""
    folder = tmp_path / "a b%41#é?"
    folder.mkdir()
    nothing = cast("Any", None)
    servicer = ControlServicer(
        cast("Any", SimpleNamespace(standing=None)),
        cast("Any", queries),
        models=cast("Any", versions),
        profile=Profile("node"),
        membership=nothing,
        serving=nothing,
        worker=nothing,
    )
    home = Home(folder)
    # A daemon that was killed leaves its socket behind.
    home.control_socket.touch()
    server = ControlServer(home.control_socket, servicer)
    await server.start()
    assert stat.S_IMODE(home.control_socket.stat().st_mode) == 0o600
    async with open_channel(home.control_socket) as channel:
        yield ControlClient(channel)
    await server.stop()
    assert not home.control_socket.exists()


async def test_status_tells_how_many_peers_are_taught(host_in_memory: Host, worker: StandInWorker) -> None:
    """And how many wait for their turn."""
    serving, standing = host_in_memory.serving(worker, Terms())
    serving.teaching = Turns(Caps(running=1, running_of_peer=1, waiting=3, waiting_of_peer=3))
    servicer = ControlServicer(
        cast("Any", SimpleNamespace(standing=standing)),
        cast("Any", None),
        models=cast("Any", None),
        profile=Profile("node"),
        membership=Membership(),
        serving=serving,
        worker=cast("Any", SimpleNamespace(state="busy")),
    )
    with ExitStack() as entered:
        for letter in "abc":
            entered.enter_context(serving.teaching.take(PeerId(letter * 52)))
        status = await servicer.GetStatus(pb.GetStatusRequest(), cast("Any", None))
    assert (status.teaching, status.waiting) == (1, 2)


async def test_a_query_crosses_the_line_unchanged(client: ControlClient, queries: StandInQueries) -> None:
    """Options arrive as they were given, and events, results and errors as they were told."""
    options = QueryOptions(
        ("ü", "b"),
        medium="features",
        deadline_seconds=1.5,
        seed=2**63,
        force=True,
        trial=True,
        light=True,
        token="t",
    )
    told = [event async for event in client.run_query(options)]
    assert queries.asked == [options]
    assert told[:-1] == EVENTS[:-1]
    first, last = EVENTS[-1], told[-1]
    assert isinstance(first, Ended)
    assert isinstance(last, Ended)
    assert last.data == first.data
    assert isinstance(last.error, UpdateRefusedError)
    assert (last.error.message, last.error.fix) == ("it forgot 3", "ask others")


async def test_an_accepted_query_has_no_error(client: ControlClient, queries: StandInQueries) -> None:
    """The end carries the result alone."""
    queries.events = [Ended({"outcome": "accepted"}, None)]
    assert [event async for event in client.run_query(QueryOptions(("a",)))] == queries.events


@pytest.mark.parametrize(
    "error", [UsageError("this node has data of its own for 0", fix="--force"), QktError("the disk is full")]
)
async def test_a_query_that_is_not_begun(
    client: ControlClient, queries: StandInQueries, error: QktError
) -> None:
    """The very error reaches the owner, with its fix."""
    queries.error = error
    with pytest.raises(type(error), match=error.message) as raised:
        await anext(aiter(client.run_query(QueryOptions(("0",)))))
    assert raised.value.fix == error.fix


async def test_an_error_outside_the_tree(client: ControlClient, queries: StandInQueries) -> None:
    """The owner is sent to the log."""
    queries.error = ZeroDivisionError("by zero")
    with pytest.raises(QktError, match="log"):
        await anext(aiter(client.run_query(QueryOptions(("0",)))))


async def test_a_query_is_watched(client: ControlClient) -> None:
    """Its events are those that whoever began it is told; one that does not exist is an error."""
    told = [event async for event in client.watch_query(QUERY_ID)]
    assert told[:-1] == EVENTS[:-1]
    assert isinstance(told[-1], Ended)
    with pytest.raises(UsageError, match="no such query"):
        await anext(aiter(client.watch_query("f" * 16)))


async def test_cancelling(client: ControlClient) -> None:
    """The owner learns how the query ended, or that there is none."""
    assert await client.cancel_query(QUERY_ID) == "cancelled"
    with pytest.raises(UsageError, match="no such query") as raised:
        await client.cancel_query("f" * 16)
    assert raised.value.fix == "qkt-node queries"


async def test_queries_and_models_are_listed(client: ControlClient) -> None:
    """What the daemon holds is shown; a query that it does not hold is an error."""
    (listed,) = (await client.queries()).queries
    (shown,) = (await client.queries(QUERY_ID)).queries
    assert (listed.query_id, listed.started_at) == (shown.query_id, shown.started_at)
    assert (shown.query_id, list(shown.classes), shown.state, shown.started_at) == (
        QUERY_ID,
        ["7"],
        "accepted",
        5.0,
    )
    with pytest.raises(UsageError, match="no such query"):
        await client.queries("nonsense")
    models = await client.models()
    assert [(model.version, model.current, model.parent) for model in models.models] == [
        (2, False, 1),
        (1, True, 0),
    ]
    assert list(models.rollbacks) == [pb.ModelRollback(rolled_back_at=6.0, replaced=2, version=1)]


async def test_versions_of_the_model(client: ControlClient) -> None:
    """The owner goes back to one, and learns how two differ, or that there is none."""
    assert await client.roll_back_model(0) == pb.RollBackModelResponse(
        version=2, replaced=1, known_classes=["7"]
    )
    with pytest.raises(UsageError, match="no model version 9") as caught:
        await client.roll_back_model(9)
    assert caught.value.fix == "qkt-node models list"
    assert await client.diff_models(1, 2) == pb.DiffModelsResponse(
        trained_before=["7"],
        trained_after=["7", "9"],
        measured_on="holdout",
        classes=[pb.ClassDifference(class_name="7", before=0.1, after=0.2)],
    )


async def test_a_list_of_queries_holds_little_of_their_results(
    client: ControlClient, queries: StandInQueries
) -> None:
    """Of a hundred large ones it still is small; a single one is shown as a whole."""
    result = {"mean_query_accuracy": {"before": 0.0, "after": 0.5}, "masks": {"peer": "m" * 50_000}}
    running, *_ = queries.listed
    queries.listed = 100 * [replace(running, result_json=json.dumps(result))] + [
        replace(running, state="running", result_json="")
    ]
    answer = await client.queries()
    assert answer.ByteSize() < 100_000
    told = {"mean_query_accuracy": result["mean_query_accuracy"]}
    assert [json.loads(query.result_json) for query in answer.queries] == [*100 * [told], {}]
    (whole,) = (await client.queries(QUERY_ID)).queries
    assert json.loads(whole.result_json) == result


async def test_the_end_of_a_query_to_a_large_federation(
    client: ControlClient, queries: StandInQueries
) -> None:
    """Its result is larger than what peers may send each other."""
    queries.events = [Ended({"masks": "m" * (MAX_MESSAGE_BYTES + 1)}, None)]
    assert [event async for event in client.watch_query(QUERY_ID)] == queries.events


async def test_homes_without_a_daemon(tmp_path: Path) -> None:
    """No socket, a socket that nobody serves, and a daemon that is only starting are told apart."""
    home = Home(tmp_path)
    with pytest.raises(NotRunningError, match="no daemon runs on") as raised:
        async with connect(home):
            pass
    assert raised.value.fix == f"qkt-node start --home {tmp_path}"
    home.control_socket.touch()
    with pytest.raises(NotRunningError, match="no daemon runs on"):
        async with connect(home):
            pass
    with lock_home(home), pytest.raises(NotRunningError, match="does not answer yet"):
        async with connect(home):
            pass
