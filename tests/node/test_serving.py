"""What peers are answered: from the worker and the journal, with nothing of what is wrong inside."""

from __future__ import annotations

import asyncio
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from qkt_node.profile import Profile
from qkt_node.serving import Serving
from qkt_node.worker.operations import SYNTHESIZE, TeachOrder
from qkt_p2p.errors import BudgetSpentError, ConfigError, PeerRefusedError, QktError
from qkt_p2p.privacy.policy import Action, Policy, Rule
from qkt_p2p.store.journal import Journal
from qkt_p2p.types import (
    Chunk,
    ChunkInfo,
    ClassName,
    PeerId,
    ProbeReport,
    ProbeRequest,
    QueryId,
    TeachEnd,
    TeachOffer,
    TeachRequest,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ASKER = PeerId("a" * 52)
PROBE = ProbeRequest(QueryId("0" * 16), 1, 8, ())
TEACH = TeachRequest(QueryId("0" * 16), "moments", 1, 10, (ClassName("7"),), (1, 8, 8))
CHUNKS = (Chunk(0, b"first"), Chunk(1, b"second"))
OFFER = TeachOffer(
    "moments",
    1,
    TEACH.classes,
    tuple(ChunkInfo(bytes([chunk.index]) * 32, len(chunk.data), 5) for chunk in CHUNKS),
)


class StandInWorker:
    """Answers with `answer`, or raises it."""

    def __init__(self) -> None:
        self.answer: object = "bank"
        self.asked: list[object] = []
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.go.set()

    async def call(self, operation: object, argument: object) -> Any:
        """Answer once `go` is set."""
        self.asked.append(argument)
        self.begun.set()
        await self.go.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def worker() -> StandInWorker:
    return StandInWorker()


class Keeper:
    """Knows the certificate of whoever is from the lab."""

    def __init__(self) -> None:
        self.standing = self

    def certificate_of(self, peer: PeerId) -> Facts | None:
        """Return what the rules look at."""
        return CERTIFIED if peer == CERTIFIED.peer_id else None


@dataclass(frozen=True)
class Facts:
    """The part of a certificate that counts here."""

    peer_id: PeerId
    name: str
    roles: tuple[str, ...]


LAB = PeerId("b" * 52)
CERTIFIED = Facts(LAB, "lab", ("research",))


@pytest.fixture
def policy() -> Policy:
    """The usual one."""
    return Policy()


@pytest.fixture
def serving(tmp_path: Path, worker: StandInWorker, policy: Policy) -> Iterator[Serving]:
    """A node that holds one bank, named "bank"."""
    with closing(Journal(tmp_path / "state.sqlite")) as journal:
        journal.save_bank("bank", OFFER, CHUNKS)
        nothing = cast("Any", None)
        yield Serving(
            Profile("node"),
            cast("Any", worker),
            journal=journal,
            membership=nothing,
            contacts=nothing,
            keeper=cast("Any", Keeper()),
            policy=policy,
        )


async def taught(serving: Serving, request: TeachRequest = TEACH, *, caller: PeerId = ASKER) -> list[object]:
    """Return all parts of a response."""
    return [part async for part in serving.teach(caller, request)]


async def test_teaching_streams_the_bank(serving: Serving, worker: StandInWorker) -> None:
    """Offer, chunks and end; what the asker holds is not sent again, and the bank does not depend on it."""
    assert await taught(serving) == [OFFER, *CHUNKS, TeachEnd(2)]
    held = replace(TEACH, held=(bytes(32),))
    assert await taught(serving, held) == [OFFER, CHUNKS[1], TeachEnd(1)]
    assert worker.asked == [TeachOrder.of(TEACH)] * 2


async def test_probing_asks_the_worker(serving: Serving, worker: StandInWorker) -> None:
    """The worker's report goes to the asker with the media in which the policy lets it be taught."""
    worker.answer = ProbeReport(1, (1, 8, 8), (), ("whatever",))
    media = ("features", "moments", "inversion", "noise")
    assert await serving.probe(ASKER, PROBE) == ProbeReport(1, (1, 8, 8), (), media)


@pytest.mark.parametrize(
    "policy", [Policy({Action.FETCH_MODEL: [Rule("role", "research")]}, ("weights", "noise"))]
)
async def test_the_model_itself_is_for_those_who_may_fetch_it(
    serving: Serving, worker: StandInWorker
) -> None:
    """Whose certificate has the role is offered the weights and gets them; others do not, nor other media."""
    worker.answer = ProbeReport(1, (1, 8, 8), ())
    assert (await serving.probe(LAB, PROBE)).media == ("weights", "noise")
    assert (await serving.probe(ASKER, PROBE)).media == ("noise",)
    worker.asked.clear()
    weights = replace(TEACH, medium="weights")
    for caller, request in ((ASKER, weights), (ASKER, TEACH), (LAB, TEACH)):
        with pytest.raises(
            PeerRefusedError, match=f"does not teach this caller in the medium {request.medium}"
        ):
            await taught(serving, request, caller=caller)
    assert worker.asked == []
    worker.answer = "bank"
    assert await taught(serving, weights, caller=LAB) == [OFFER, *CHUNKS, TeachEnd(2)]
    assert worker.asked == [TeachOrder.of(weights)]


async def test_a_stem_crosses_the_line_to_the_worker_as_text(serving: Serving, worker: StandInWorker) -> None:
    """Any bytes arrive as themselves; what the asker holds stays out of what is made."""
    request = replace(TEACH, medium="features", stem=bytes(range(256)), held=(bytes(32),))
    await taught(serving, request)
    (order,) = worker.asked
    line = SYNTHESIZE.argument.dump_json(cast("TeachOrder", order))
    assert SYNTHESIZE.argument.validate_json(line).whole == replace(request, held=())


@pytest.mark.parametrize("reason", [PeerRefusedError("too many classes"), BudgetSpentError("no more of 7")])
async def test_refusals_are_told(serving: Serving, worker: StandInWorker, reason: QktError) -> None:
    """What the teacher decided reaches the asker as itself."""
    worker.answer = reason
    with pytest.raises(type(reason), match=reason.message):
        await serving.probe(ASKER, PROBE)
    with pytest.raises(type(reason), match=reason.message):
        await taught(serving)


@pytest.mark.parametrize("failure", [ConfigError("no /home/me/data.npz"), QktError("worker died")])
async def test_failures_are_kept_private(serving: Serving, worker: StandInWorker, failure: QktError) -> None:
    """An asker learns nothing of paths and settings."""
    worker.answer = failure
    for asking in (serving.probe(ASKER, PROBE), taught(serving)):
        with pytest.raises(PeerRefusedError) as raised:
            await asking
        assert raised.value.message == "this node cannot answer now: its owner finds the reason in its log"


async def test_a_bank_that_was_dropped(serving: Serving, worker: StandInWorker) -> None:
    """Between synthesis and sending a bank may go; the asker may ask again."""
    worker.answer = "another bank"
    with pytest.raises(PeerRefusedError, match="ask again"):
        await taught(serving)


async def test_only_so_many_are_taught_at_once(
    serving: Serving, worker: StandInWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One more is refused at once; a stream that was broken off makes room."""
    monkeypatch.setattr("qkt_node.serving.MAX_CONCURRENT_TEACHING", 1)
    worker.go.clear()
    first = asyncio.create_task(taught(serving))
    await worker.begun.wait()
    with pytest.raises(PeerRefusedError, match="already teaches 1 peers"):
        await taught(serving)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    worker.go.set()
    assert len(await taught(serving)) == 4


async def test_a_node_that_stops_takes_no_new_work(serving: Serving, worker: StandInWorker) -> None:
    """Askers are told at once, and go on without this node."""
    serving._own.draining = True
    for asking in (serving.probe(ASKER, PROBE), taught(serving)):
        with pytest.raises(PeerRefusedError, match="stopping"):
            await asking
    assert worker.asked == []
