"""What must be in order before a node serves: its home after a crash, and a model."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from qkt_node.model_files import is_saved_with, remove_leftovers, require_intact, stored_model
from qkt_node.worker.operations import PREPARE
from qkt_p2p.identity.files import make_private_directory

if TYPE_CHECKING:
    from qkt_node.home import Home
    from qkt_node.settings import NodeConfig
    from qkt_node.worker.client import Worker
    from qkt_p2p.seams import ReportProgress
    from qkt_p2p.store.journal import Journal
    from qkt_p2p.types import StudentModel


def prepare_home(home: Home, journal: Journal) -> None:
    """Put away what a daemon that was killed had in hand, and make directories that the owner moved away.

    What queries need that can go on stays.
    """
    journal.drop_remains()
    shutil.rmtree(home.scratch, ignore_errors=True)
    for directory in (home.models, home.reports, home.scratch):
        make_private_directory(directory)
    remove_leftovers(home.models, under_way=[record.query_id for record in journal.queries_under_way()])


async def prepare_model(
    home: Home,
    config: NodeConfig,
    *,
    journal: Journal,
    worker: Worker,
    progress: ReportProgress,
) -> StudentModel:
    """Return what the home's model is; where it holds none, have the worker train one.

    Other data than it was saved with are looked at before anybody relies on them; that takes the worker.
    Raises ConfigError where the model or the data cannot be used.
    """
    require_intact(home, journal.model_records())
    stored = stored_model(home, config)
    if stored is not None and is_saved_with(home, config.data):
        return stored
    return await worker.call(PREPARE, None, progress)
