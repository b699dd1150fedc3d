"""A student and its teachers in one process, with all of the network between them: real gRPC over mutual TLS,
each teacher behind a way that faults befall, a real journal on disk; only the learning is a stand-in.
"""

from __future__ import annotations

import asyncio
import errno
import os
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from qkt_node.cluster.chaos.dribble import Dribble
from qkt_node.cluster.chaos.lies import LIES, Lie, LyingHandler
from qkt_node.cluster.chaos.proxy import NETWORK, Proxy, impose
from qkt_node.cluster.chaos.schedule import Fault, Schedule
from qkt_p2p.files import unwritable
from qkt_p2p.identity.standing import Standing
from qkt_p2p.identity.trust import Identity
from qkt_p2p.store.chunk_files import ChunkFiles
from qkt_p2p.store.journal import Journal
from qkt_p2p.transport.client import USUAL_DEADLINES, Deadlines
from qkt_p2p.types import Query, QueryId
from tests.faults.bank import ASKED, CHUNKS_PER_CLASS, KNOWLEDGE, BankTeacher
from tests.faults.federation import ASKER, Host, Members
from tests.faults.run import End, Run

HASTY = Deadlines(call=0.3, heartbeat=0.3, probe=0.3, stall=0.3)
"""For teachers that will not answer anyway."""

QUERY_SECONDS = 120.0
"""Deadline of a query, which no busy machine misses."""


RPC_TASK = "rpc_task"
"""What grpc.aio's server names the tasks of a call."""


class FullChunkFiles(ChunkFiles):
    """Files on a disk that has no room."""

    def append(self, owner: str, chunks: Sequence[bytes]) -> list[int]:
        raise unwritable(self._path(owner), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))


class Arena:
    """Teachers that serve, and a journal; `run` asks them once while a schedule's faults befall them."""

    def __init__(
        self,
        members: Members,
        folder: Path,
        *,
        seed: int = 0,
        pace: float = 0.0,
        pieces: int = CHUNKS_PER_CLASS,
        deadlines: Deadlines = USUAL_DEADLINES,
    ) -> None:
        self.members = members
        self.deadlines = dict.fromkeys(KNOWLEDGE, deadlines)
        self.pace = pace
        self.pieces = pieces
        self.database = folder / f"state-{seed}.sqlite"
        self.journal = Journal(self.database)
        self.hosts: dict[str, Host] = {}
        self.standing = Standing(members.identities[ASKER])
        self._seed = seed
        self._work: set[asyncio.Task[None]] = set()
        self._undo: list[Callable[[], object]] = []

    async def __aenter__(self) -> Arena:
        for name, classes in KNOWLEDGE.items():
            teacher = BankTeacher(dict.fromkeys(classes, 0.9), name=name, pieces=self.pieces)
            proxy = Proxy("", random.Random(f"{self._seed} {name}"))
            handler = LyingHandler(teacher)
            host = Host(name, teacher, self.members.identities[name], proxy, handler)
            await host.start()
            await proxy.start()
            self.hosts[name] = host
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._settle()
        for host in self.hosts.values():
            await host.proxy.stop()
            await host.stop()
        self.journal.close()

    async def run(
        self,
        schedule: Schedule,
        *,
        seconds: float = QUERY_SECONDS,
        at_chunk: Mapping[tuple[str, int], Fault] | None = None,
    ) -> End:
        """Run one query while the schedule's faults befall it; they are over when this returns.

        Those of `at_chunk` begin when so many chunks of a teacher have arrived.
        """
        query = Query(self.query_id(schedule.seed), ASKED, "features", 1, seconds)
        for host in self.hosts.values():
            host.teacher.pace = self.pace
        run = Run(self, query, schedule.faults, at_chunk=at_chunk or {})
        try:
            return await run.to_its_end(schedule)
        finally:
            await self._settle()
            self.journal.drop_responses(query.query_id)

    async def quiet(self) -> None:
        """Return when no connection is left of the queries so far, and no call of them at any teacher."""
        for host in self.hosts.values():
            await host.proxy.quiet()
        # A teacher hears a moment after its way that nobody is there any more.
        while calls := served_calls():
            await asyncio.wait(calls)

    @staticmethod
    def query_id(seed: int) -> QueryId:
        """Return the identifier of the query of a schedule."""
        return QueryId(f"{seed:016x}"[-16:])

    async def _settle(self) -> None:
        """End every fault, and wait until all serve again."""
        while self._undo:
            self._undo.pop()()
        while self._work:
            await asyncio.gather(*self._work)
        for host in self.hosts.values():
            if host.server is None:
                await host.start()

    def begin(self, fault: Fault, run: Run) -> None:
        """Let a fault befall its node; at its end everything is as before."""
        undo = self._befall(fault, run)
        self._undo.append(undo)
        if fault.seconds:
            asyncio.get_running_loop().call_later(fault.seconds, self._end, undo)

    def _end(self, undo: Callable[[], object]) -> None:
        if undo in self._undo:
            self._undo.remove(undo)
            undo()

    def _befall(self, fault: Fault, run: Run) -> Callable[[], object]:
        hosts = list(self.hosts.values()) if fault.node == ASKER else [self.hosts[fault.node]]
        if fault.kind in (*NETWORK, "pause"):
            kind = "partition" if fault.kind == "pause" else fault.kind
            ends = [impose(host.proxy, kind, fault.parameters) for host in hosts]
            return lambda: [end() for end in ends]
        if fault.kind == "slow-loris":
            crowds = [Dribble(host.proxy.address, int(fault.parameters["connections"])) for host in hosts]
            for crowd in crowds:
                crowd.start()
            return lambda: self._soon(_all_stopped(crowds))
        if fault.node == ASKER:
            return self._befall_asker(fault, run)
        return self._befall_teacher(fault, hosts[0])

    def _befall_asker(self, fault: Fault, run: Run) -> Callable[[], object]:
        if fault.kind == "kill":
            run.kill()
            return lambda: None
        if fault.kind == "full-disk":
            return self._fill_disk()
        # Lines outlive a change of their node's certificate, so that it shows when the asker starts again.
        identity = self.members.identities[ASKER]
        self.standing.show(self._certified(fault))
        run.kill()
        return lambda: self.standing.show(identity)

    def _fill_disk(self) -> Callable[[], object]:
        journal, chunks = self.journal, self.journal._chunks
        # The least that the database may have is what it has.
        journal._row("PRAGMA max_page_count = 1")
        journal._chunks = FullChunkFiles(self.database.with_name(f"{self.database.name}-chunks"))

        def undo() -> None:
            if journal is self.journal:
                journal._row("PRAGMA max_page_count = 1073741823")
                journal._chunks = chunks

        return undo

    def _befall_teacher(self, fault: Fault, host: Host) -> Callable[[], object]:
        if fault.kind in LIES:
            host.handler.lie = Lie(fault.kind, int(fault.parameters.get("chunk", 0)))
            return lambda: setattr(host.handler, "lie", None)
        match fault.kind:
            case "kill":
                host.proxy.conditions.gone = True
                host.proxy.reset()
                self._soon(host.stop())
                return lambda: self._soon(self._restart(host))
            case "full-disk":
                host.teacher.full = True
                return lambda: setattr(host.teacher, "full", False)
        host.standing.show(self._certified(fault))
        host.proxy.reset()
        return lambda: host.standing.show(host.identity)

    def _certified(self, fault: Fault) -> Identity:
        """Return what a node shows whose clock is wrong, or whose certificate is about to end."""
        seconds = fault.parameters["seconds"]
        if fault.kind == "clock-skew":
            begin = datetime.now(UTC) + timedelta(seconds=seconds)
            return self.members.certified(fault.node, begin=begin, seconds=60)
        assert fault.kind == "expiring-certificate", fault.kind
        return self.members.certified(fault.node, begin=datetime.now(UTC), seconds=seconds)

    async def _restart(self, host: Host) -> None:
        await host.stop()
        await host.start()

    def _soon(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    def reopen(self) -> None:
        """Do what a process does that starts again: read the journal from disk."""
        self.journal.close()
        self.journal = Journal(self.database)


def served_calls() -> set[asyncio.Task[object]]:
    """Return the tasks of all calls that servers of this process are answering."""
    return {task for task in asyncio.all_tasks() if task.get_name() == RPC_TASK}


async def _all_stopped(crowds: Sequence[Dribble]) -> None:
    for crowd in crowds:
        await crowd.stop()
