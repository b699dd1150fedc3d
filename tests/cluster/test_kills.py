"""Kill -9 of the asker's daemon: its query goes on when it is started again, and ends as if undisturbed."""

from __future__ import annotations

import shutil
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from qkt_node.kept import TAKEN, decode_kept
from qkt_p2p.store.journal import Journal, QueryRecord
from qkt_p2p.types import QueryId
from tests.cluster.local_cluster import (
    Answer,
    WatchedQuery,
    qkt,
    reach,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from qkt_node.home import Home
    from tests.cluster.local_cluster import LocalCluster

ASKER = "node-1"


@pytest.fixture
def copy(cluster: LocalCluster, tmp_path: Path) -> Iterator[Path]:
    """A copy of the asker's home, which it gets back afterwards: its models change meanwhile."""
    cluster.kill(ASKER)
    socket = shutil.ignore_patterns("control.sock")
    yield shutil.copytree(cluster.home(ASKER).root, tmp_path / "copy", symlinks=True, ignore=socket)
    cluster.put_back(ASKER, tmp_path / "copy")


def start(cluster: LocalCluster) -> None:
    cluster.start(ASKER)
    cluster.wait_connected(ASKER)


def learned(home: Home, ended: Answer) -> tuple[object, ...]:
    """Return all that tells one learned model from another, once it is the current one."""
    with closing(Journal(home.database)) as journal:
        newest, *older = journal.model_records()
    assert ended.data["model_version"] == newest.version == 2
    assert (home.models / "current").readlink().name == newest.file
    assert len(older) == 1
    left = {path.name for path in home.models.iterdir()} - {newest.file, older[0].file, "current"}
    assert left == set()
    used = {teacher["name"] for teacher in ended.data["teachers"] if teacher["used"]}
    return newest.sha256, ended.data["accuracy"], used, ended.data["outcome"]


def kept(home: Home, query_id: str) -> tuple[QueryRecord, int]:
    """Return what a dead daemon's journal holds of a query, and of its teachers' chunks how many bytes."""
    with closing(Journal(home.database)) as journal:
        record = journal.query_record(QueryId(query_id))
        assert record is not None
        held = journal.held_by_source(QueryId(query_id))
    return record, sum(size for _, size in held.values())


def received(ended: Answer) -> int:
    return sum(teacher["bytes"] for teacher in ended.data["teachers"])


def test_a_query_outlives_its_daemon_in_each_step(cluster: LocalCluster, copy: Path) -> None:
    """Killed in all five steps, one after the other, it ends with the same model; no chunk comes twice."""
    home, asked = cluster.home(ASKER), cluster.taught_by_both(ASKER)
    options = ("--home", home.root, "--classes", asked, "--seed", 5, "--token", "once")
    start(cluster)
    undisturbed = qkt("query", *options)
    expected = learned(home, undisturbed)
    cluster.put_back(ASKER, copy)
    start(cluster)
    # A worker that does not answer keeps the first two steps from ending before the daemon is killed.
    frozen = cluster.worker("node-3")
    frozen.suspend()
    with WatchedQuery(home, *options[2:]) as query:
        query.wait_for("probe")
        query_id = query.query_id
        cluster.kill(ASKER)
        lost = query.end()
    assert (lost.exit_code, lost.error["code"]) == (4, "not-running")
    assert f"qkt-node queries watch {query_id}" in lost.error["fix"]
    frozen.resume()
    for finished, step in enumerate(TAKEN[1:], start=1):
        cluster.start(ASKER)
        reach(home, query_id, step, done=1 if step == "collect" else 0)
        cluster.kill(ASKER)
        record, bytes_held = kept(home, query_id)
        assert bytes_held > 0
        assert len(decode_kept(record.kept_json).outcome.finished) >= finished
    start(cluster)
    ended = qkt("query", *options)
    assert ended.data["query_id"] == query_id
    assert learned(home, ended) == expected
    assert qkt("queries", "--home", home.root).data["queries"][0]["token"] == "once"
    # Before a kill and after it: a chunk that came twice would be counted twice.
    assert received(ended) == received(undisturbed)
