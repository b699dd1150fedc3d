"""The learner's steps as operations of the worker, and a model that is adopted whole or not at all."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from typing import Any, cast

import pytest

from qkt_node.learning import WorkerLearner
from qkt_node.profile import Profile
from qkt_p2p.errors import QktError
from qkt_p2p.types import ClassName, LearningTask, PeerId, Progress, Query, QueryId, StudentModel

QUERY = Query(QueryId("0" * 16), (ClassName("7"),), "moments", 1, 10.0)
TASK = LearningTask(QUERY, {}, "moments")
SEVEN = (ClassName("7"),)
ADOPTED = StudentModel(2, (1, 8, 8), local=SEVEN, known=(), scarce=SEVEN, trained=SEVEN)


class StandInWorker:
    """Notes the operations; `adopt` waits for `go`."""

    def __init__(self) -> None:
        self.operations: list[str] = []
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.error: QktError | None = None

    async def call(self, operation: Any, argument: object, progress: object = None) -> Any:
        """Answer as the operation would."""
        self.operations.append(operation.name)
        if operation.name == "stem":
            return b64encode(f"stem for {argument}".encode()).decode()
        if operation.name == "adopt":
            self.begun.set()
            await self.go.wait()
            if self.error is not None:
                raise self.error
            return ADOPTED
        return None


@pytest.fixture
def worker() -> StandInWorker:
    return StandInWorker()


async def test_each_step_is_one_operation(worker: StandInWorker) -> None:
    """The worker is asked for what the student's step is called."""
    learner = WorkerLearner(cast("Any", worker), Profile("node"))

    def unheard(progress: Progress) -> None:
        del progress

    assert await learner.stem("features", unheard) == b"stem for features"
    await learner.check_response(QUERY, PeerId("a" * 52), ())
    await learner.phase1(TASK, unheard)
    await learner.phase2(TASK, unheard)
    await learner.validate(TASK, unheard)
    assert worker.operations == ["stem", "check_response", "phase1", "phase2", "validate"]


async def test_a_cancellation_during_adoption_comes_too_late(worker: StandInWorker) -> None:
    """The model is adopted, the profile says so, and the query goes on as if nobody had called."""
    profile = Profile("node")
    adopting = asyncio.create_task(WorkerLearner(cast("Any", worker), profile).adopt(TASK))
    await worker.begun.wait()
    adopting.cancel()
    await asyncio.sleep(0)
    assert not adopting.done()
    worker.go.set()
    assert await adopting == 2
    assert profile.model == ADOPTED
    assert not adopting.cancelling()


async def test_an_adoption_that_fails_changes_nothing(worker: StandInWorker) -> None:
    """The profile keeps the old model."""
    profile = Profile("node")
    worker.error = QktError("no space")
    worker.go.set()
    with pytest.raises(QktError, match="no space"):
        await WorkerLearner(cast("Any", worker), profile).adopt(TASK)
    assert profile.model.version == 0
