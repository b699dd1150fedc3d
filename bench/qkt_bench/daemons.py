"""QKT over real daemons: a cluster of the same data, partition and seeds is asked the same."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qkt_bench.federation import HOLDOUT
from qkt_bench.inprocess import code_digest
from qkt_bench.methods import MethodResult
from qkt_node.cluster.create import ClusterPlan, create_homes
from qkt_node.cluster.layout import ClusterFolder
from qkt_node.cluster.processes import start_cluster, stop_daemons
from qkt_node.control.client import connect
from qkt_node.events import Ended, QueryOptions
from qkt_p2p.errors import QktError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qkt_bench.federation import Federation, Say
    from qkt_bench.queries import BenchQuery
    from qkt_node.home import Home


@dataclass(frozen=True, slots=True)
class QktDaemons:
    """One query through `qkt-node start` processes on this machine, which train their models themselves."""

    name: str = "qkt-daemons"

    @property
    def configuration(self) -> Mapping[str, Any]:
        """The code of the library."""
        return {"code": code_digest()}

    def run(self, federation: Federation, query: BenchQuery, *, progress: Say) -> MethodResult:
        """Start a daemon for each node, ask, and stop them; the asker measures on the same test data."""
        with tempfile.TemporaryDirectory(prefix="qkt-bench-") as root:
            folder = ClusterFolder(Path(root).resolve() / "cluster")
            cluster = create_homes(
                folder,
                _plan(federation),
                parts=[node.dealt for node in federation.nodes],
                test=federation.test,
                holdout=HOLDOUT,
            )
            try:
                asyncio.run(
                    start_cluster(folder, cluster, lambda done, total, name: progress(f"{name} is up"))
                )
                # A trial measures what the query brings.
                options = QueryOptions(query.classes, seed=query.seed, force=True, trial=True)
                data = asyncio.run(_asked(folder.home(query.asker), options))
            finally:
                stop_daemons(folder)
        return _result(data)


def _plan(federation: Federation) -> ClusterPlan:
    plan = federation.plan
    return ClusterPlan(
        nodes=len(federation.nodes),
        classes_per_node=0,
        source=plan.source,
        model=plan.model,
        seed=federation.seed,
        samples_per_class=0,
        augment=plan.augment,
    )


async def _asked(home: Home, options: QueryOptions) -> dict[str, Any]:
    async with connect(home) as client:
        async for event in client.run_query(options):
            if isinstance(event, Ended):
                return event.data
    raise QktError(f"the daemon of {home.root} ended before its query did")


def _result(data: Mapping[str, Any]) -> MethodResult:
    names = data["peer_names"]
    after = "after" if data["outcome"] == "accepted" else "before"
    return MethodResult(
        None,
        bytes_sent=data["bytes_sent"],
        bytes_received=data["bytes_received"],
        bytes_federation=data["bytes_sent"] + data["bytes_received"],
        seconds=data["seconds"]["total"],
        outcome=f"{data['outcome']}: {data['reason']}",
        evidence={names[peer]: values for peer, values in data["masks"].items() if values},
        chosen={"medium": data["medium"], "steps": data["seconds"]},
        accuracy={name: item[after] for name, item in data["accuracy"].items()},
    )
