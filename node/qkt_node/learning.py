"""The student's Learner seam, answered by the worker process."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from qkt_node.worker.operations import (
    ADOPT,
    CHECK_RESPONSE,
    PHASE1,
    PHASE2,
    PREFERRED_MEDIA,
    STEM,
    VALIDATE,
    ResponseCheck,
)
from qkt_p2p.errors import WorkerDiedError

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from qkt_node.profile import Profile
    from qkt_node.worker.client import Worker
    from qkt_node.worker.operations import Operation
    from qkt_p2p.seams import ReportProgress
    from qkt_p2p.types import ClassName, LearningTask, PeerId, Query, StudentModel, Validation

log = structlog.get_logger(__name__)

A = TypeVar("A")
R = TypeVar("R")


class WorkerLearner:
    """Each method is one operation of the worker; an adopted model is told to the profile.

    Where the worker dies in a step, another one takes the step once more: each continues from what lies on
    disk. Adopting is not repeated, as it may have been done.
    """

    def __init__(self, worker: Worker, profile: Profile) -> None:
        self._worker = worker
        self._profile = profile

    async def preferred_media(self) -> tuple[str, ...]:
        """Return the media in the order in which this student learns best from them."""
        return await self._step(PREFERRED_MEDIA, None)

    async def stem(self, medium: str, progress: ReportProgress) -> bytes:
        """Return the stem of the student as an ONNX graph, empty where the medium needs none."""
        text: str = await self._step(STEM, medium, progress)
        return b64decode(text)

    async def check_response(self, query: Query, source: PeerId, classes: tuple[ClassName, ...]) -> None:
        """Decode what `source` sent of `classes`."""
        await self._step(CHECK_RESPONSE, ResponseCheck(query, source, classes))

    async def phase1(self, task: LearningTask, progress: ReportProgress) -> None:
        """Distil the teachers' responses into the grown student."""
        await self._step(PHASE1, task, progress)

    async def phase2(self, task: LearningTask, progress: ReportProgress) -> None:
        """Refine the classification head against forgetting."""
        await self._step(PHASE2, task, progress)

    async def validate(self, task: LearningTask, progress: ReportProgress) -> Validation:
        """Measure the candidate against the old model."""
        return await self._step(VALIDATE, task, progress)

    async def adopt(self, task: LearningTask) -> int:
        """Make the candidate the node's model and return its version.

        Once begun it is done: files and profile agree although the query is cancelled meanwhile.
        """
        return (await change_model(self._worker, self._profile, operation=ADOPT, argument=task)).version

    async def _step(
        self, operation: Operation[A, R], argument: A, progress: ReportProgress | None = None
    ) -> R:
        """Return the result of an operation that may be repeated; a worker that dies again fails it."""
        try:
            return await self._worker.call(operation, argument, progress)
        except WorkerDiedError as error:
            log.warning("step_repeated", step=operation.name, reason=error.message)
            return await self._worker.call(operation, argument, progress)


async def change_model(
    worker: Worker, profile: Profile, *, operation: Operation[A, StudentModel], argument: A
) -> StudentModel:
    """Have the worker make another version the node's model, and tell the profile all that it is.

    Once begun it is done: files and profile agree although nobody waits for it any more.
    """
    profile.model = await _to_the_end(worker.call(operation, argument))
    return profile.model


async def _to_the_end(work: Coroutine[Any, Any, R]) -> R:
    """Return what `work` returns; a cancellation that comes meanwhile came too late, and is dropped."""
    task = asyncio.create_task(work)
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            if (current := asyncio.current_task()) is not None:
                current.uncancel()
    return task.result()
