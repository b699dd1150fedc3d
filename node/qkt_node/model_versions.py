"""The versions of this node's model: which there are, going back to one, and how two differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from qkt_node.learning import change_model
from qkt_node.worker.operations import COMPARE, ROLL_BACK, ModelPair
from qkt_p2p.errors import UsageError

if TYPE_CHECKING:
    from qkt_node.queries import Queries
    from qkt_node.query_run import Means
    from qkt_node.worker.operations import ModelDifference
    from qkt_p2p.store.records import ModelRecord, RollbackRecord
    from qkt_p2p.types import StudentModel

log = structlog.get_logger(__name__)


class ModelVersions:
    """What the owner sees of versions, and does with them while no query is under way."""

    def __init__(self, means: Means, queries: Queries) -> None:
        self._means = means
        self._queries = queries

    def records(self) -> list[ModelRecord]:
        """Return all versions, newest first."""
        return self._means.journal.model_records()

    def rollbacks(self) -> list[RollbackRecord]:
        """Return when the node went back to which, the latest time first."""
        return self._means.journal.rollback_records()

    @property
    def current(self) -> int:
        """The version that the node uses."""
        return self._means.profile.model.version

    async def roll_back(self, version: int) -> StudentModel:
        """Make an earlier version the node's model again, 0 for the one from which the current one came.

        Queries that come meanwhile wait, and build on it. Raises UsageError where there is no such version or
        a query is under way, and ConfigError where its file cannot be used.
        """
        self._queries.require_none()
        means, replaced = self._means, self.current
        wanted = version or self._parent()
        if wanted == replaced:
            raise UsageError(f"version {wanted} is the current one", fix="qkt-node models list")
        async with means.turn:
            model = await change_model(means.worker, means.profile, operation=ROLL_BACK, argument=wanted)
        log.info("model_rolled_back", version=model.version, replaced=replaced)
        return model

    async def compare(self, before: int, after: int) -> ModelDifference:
        """Measure two versions on data that nothing was trained on; raises as `roll_back` for either."""
        return await self._means.worker.call(COMPARE, ModelPair(before, after))

    def _parent(self) -> int:
        record = self._means.journal.model_record(self.current)
        if record is None or not record.parent:
            raise UsageError(
                f"version {self.current} came from no other: say which one", fix="qkt-node models list"
            )
        return record.parent
