"""QKT itself in one process: what it learns does not depend on how fast the machine is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from qkt_bench.federation import Federation
from qkt_bench.inprocess import Qkt
from qkt_bench.network.virtual_time import run_in_virtual_time
from qkt_bench.peers import TeachingNode
from qkt_bench.plan import QueryPlan
from qkt_bench.queries import make_queries
from qkt_p2p.limits import STREAM_STALL_SECONDS
from qkt_p2p.types import PeerId, TeachPart, TeachRequest


def test_a_teacher_that_works_for_minutes_is_waited_for(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Teachers share this process: each is silent for as long as all others invert their models."""
    answer = TeachingNode.teach

    async def late(node: TeachingNode, caller: PeerId, request: TeachRequest) -> AsyncGenerator[TeachPart]:
        await asyncio.sleep(5 * STREAM_STALL_SECONDS)
        async for part in answer(node, caller, request):
            yield part

    query = make_queries(federation, QueryPlan("single"))[0]
    monkeypatch.setattr("qkt_bench.inprocess.asyncio.run", run_in_virtual_time)
    at_once = Qkt(medium="moments").run(federation, query, progress=lambda _: None)
    monkeypatch.setattr(TeachingNode, "teach", late)
    waited = Qkt(medium="moments").run(federation, query, progress=lambda _: None)
    assert at_once.outcome.startswith("accepted")
    assert (waited.outcome, waited.bytes_received) == (at_once.outcome, at_once.bytes_received)
