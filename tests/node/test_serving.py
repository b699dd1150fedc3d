"""What peers are answered: from the worker and the journal, with nothing of what is wrong inside."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from structlog.testing import capture_logs

from qkt_node import serving as serving_module
from qkt_node.serving import Serving, Terms
from qkt_node.turns import Caps, Turns
from qkt_node.worker.operations import SYNTHESIZE, TeachOrder
from qkt_p2p.errors import (
    BudgetSpentError,
    ConfigError,
    PeerBusyError,
    PeerRefusedError,
    ProtocolError,
    QktError,
    WorkerDiedError,
)
from qkt_p2p.limits import STOPPING_SECONDS
from qkt_p2p.store.journal import Journal
from qkt_p2p.transport.pace import Throttle
from qkt_p2p.types import Chunk, PeerId, ProbeReport, QueryId, TeachEnd, TeachRequest, TeachWait
from tests.node.hosting import CHUNKS, OFFER, PROBING, TEACHING, Host, StandInWorker, offer_of

ASKER, OTHER = PeerId("a" * 52), PeerId("b" * 52)
ONE_AT_ONCE = Caps(running=1, running_of_peer=1, waiting=4, waiting_of_peer=2)


@pytest.fixture
def serving(host_in_memory: Host, worker: StandInWorker) -> Serving:
    """A node that holds one bank, named "bank"."""
    return host_in_memory.serving(worker, Terms())[0]


async def taught(
    serving: Serving, request: TeachRequest = TEACHING, *, caller: PeerId = ASKER
) -> list[object]:
    """Return all parts of a response."""
    return [part async for part in serving.teach(caller, request)]


async def test_teaching_streams_the_bank(serving: Serving, worker: StandInWorker) -> None:
    """Offer, chunks and end; what the asker holds is not sent again, and the bank does not depend on it."""
    assert await taught(serving) == [OFFER, *CHUNKS, TeachEnd(2)]
    held = replace(TEACHING, held=(OFFER.chunks[0].digest,), query_id=QueryId("1" * 16))
    assert await taught(serving, held) == [OFFER, CHUNKS[1], TeachEnd(1)]
    assert worker.asked == [TeachOrder.of(TEACHING)] * 2


async def test_an_offer_comes_alone_where_no_more_is_wanted(serving: Serving, worker: StandInWorker) -> None:
    """An asker that compares offers first gets no chunk, and the bank is the same."""
    assert await taught(serving, replace(TEACHING, offer_only=True)) == [OFFER, TeachEnd(0)]
    assert worker.asked == [TeachOrder.of(TEACHING)]


async def test_the_ledger_says_whom_it_taught(
    serving: Serving, host_in_memory: Host, worker: StandInWorker
) -> None:
    """Each stream that sends something counts; an offer, and what is held there already, do not."""
    await taught(serving, replace(TEACHING, offer_only=True))
    await taught(serving, replace(TEACHING, held=tuple(info.digest for info in OFFER.chunks)))
    assert host_in_memory.journal.disclosures() == []
    await taught(serving)
    await taught(serving, caller=OTHER)
    await taught(serving)
    found = {each.peer: each for each in host_in_memory.journal.disclosures()}
    assert {peer: (each.class_name, each.medium, each.times) for peer, each in found.items()} == {
        ASKER: ("7", "moments", 2),
        OTHER: ("7", "moments", 1),
    }


async def test_probing_asks_the_worker(serving: Serving, worker: StandInWorker) -> None:
    """The worker's report goes to the asker with the media in which the policy lets it be taught."""
    worker.report = ProbeReport(1, (1, 8, 8), (), ("whatever",))
    media = ("features", "moments", "inversion", "noise")
    assert await serving.probe(ASKER, PROBING) == ProbeReport(1, (1, 8, 8), (), media)


async def test_a_stem_crosses_the_line_to_the_worker_as_text(serving: Serving, worker: StandInWorker) -> None:
    """Any bytes arrive as themselves; who asks and what is held there stays out of what is made."""
    request = replace(TEACHING, medium="features", stem=bytes(range(256)), held=(bytes(32),))
    await taught(serving, request)
    (order,) = worker.asked
    line = SYNTHESIZE.argument.dump_json(cast("TeachOrder", order))
    assert SYNTHESIZE.argument.validate_json(line).whole == replace(request, held=(), query_id=QueryId(""))


@pytest.mark.parametrize("reason", [PeerRefusedError("too many classes"), BudgetSpentError("no more of 7")])
async def test_refusals_are_told(serving: Serving, worker: StandInWorker, reason: QktError) -> None:
    """What the teacher decided reaches the asker as itself."""
    worker.failure = reason
    with pytest.raises(type(reason), match=reason.message):
        await serving.probe(ASKER, PROBING)
    with pytest.raises(type(reason), match=reason.message):
        await taught(serving)


@pytest.mark.parametrize("failure", [ConfigError("no /home/me/data.npz"), QktError("worker stopped")])
async def test_failures_are_kept_private(serving: Serving, worker: StandInWorker, failure: QktError) -> None:
    """An asker learns nothing of paths and settings."""
    worker.failure = failure
    for asking in (serving.probe(ASKER, PROBING), taught(serving)):
        with pytest.raises(PeerRefusedError) as raised:
            await asking
        assert raised.value.message == "this node cannot answer now: its owner finds the reason in its log"


async def test_a_worker_that_died_is_no_reason_to_give_up(serving: Serving, worker: StandInWorker) -> None:
    """The next call starts another, so the asker is told to come again."""
    worker.failure = WorkerDiedError("signal 9", fix="see /home/me")
    for asking in (serving.probe(ASKER, PROBING), taught(serving)):
        with pytest.raises(PeerBusyError, match=r"^this node's work was cut short$") as raised:
            await asking
        assert raised.value.retry_after == 1


async def test_a_request_that_kills_the_worker_twice_is_refused(
    serving: Serving, worker: StandInWorker
) -> None:
    """Whoever asks for the same is told why, and nothing is tried; the owner's log names it once each."""
    worker.failure = WorkerDiedError("signal 9", fix="see /home/me")
    for ask in (lambda: serving.probe(ASKER, PROBING), lambda: taught(serving)):
        asked = len(worker.asked)
        with pytest.raises(PeerBusyError):
            await ask()
        with capture_logs() as logs, pytest.raises(PeerRefusedError, match="died twice of this") as raised:
            await ask()
        assert not isinstance(raised.value, PeerBusyError)
        assert [(log["event"], log["log_level"]) for log in logs] == [("order_refused", "error")]
        with pytest.raises(PeerRefusedError, match="died twice of this"):
            await ask()
        assert len(worker.asked) == asked + 2
    worker.failure = None
    with pytest.raises(PeerRefusedError, match="died twice of this"):
        await taught(serving, replace(TEACHING, query_id=QueryId("1" * 16)), caller=OTHER)
    assert (await taught(serving, replace(TEACHING, seed=2)))[-1] == TeachEnd(2)


async def test_a_death_that_two_askers_share_is_one(serving: Serving, worker: StandInWorker) -> None:
    """Both are told to come again: the worker died once."""
    worker.failure = WorkerDiedError("signal 9")
    worker.go.clear()
    asking = [asyncio.create_task(taught(serving, caller=peer)) for peer in (ASKER, OTHER)]
    await worker.begun.wait()
    worker.go.set()
    assert [type(each) for each in await asyncio.gather(*asking, return_exceptions=True)] == [
        PeerBusyError,
        PeerBusyError,
    ]


@pytest.mark.parametrize("medium", ["features", "moments"])
async def test_what_is_wrong_with_a_request_is_told(
    serving: Serving, worker: StandInWorker, medium: str
) -> None:
    """Its asker alone can mend it, and this node's owner has nothing to repair."""
    worker.failure = ProtocolError("the stem uses the operator :If" + "x" * 999)
    with capture_logs() as logs, pytest.raises(ProtocolError, match="the operator :If") as raised:
        await taught(serving, replace(TEACHING, medium=medium))
    assert len(raised.value.message) == 300
    assert [(log["event"], log["log_level"]) for log in logs] == [("request_not_usable", "warning")]


async def test_a_bank_that_was_dropped(serving: Serving, worker: StandInWorker) -> None:
    """Between synthesis and sending a bank may go; the asker may ask again."""
    worker.bank = "another bank"
    with pytest.raises(PeerBusyError, match="ask again"):
        await taught(serving)


async def test_a_bank_that_the_disk_lost(
    serving: Serving, worker: StandInWorker, bank: Journal, tmp_path: Path
) -> None:
    """The asker may ask again: the bank is gone by then, and made anew."""
    (file,) = (tmp_path / "state.sqlite-chunks").iterdir()
    file.unlink()
    with pytest.raises(PeerBusyError, match="ask again"):
        await taught(serving)
    assert bank.load_bank("bank") is None


def spoil(tmp_path: Path) -> None:
    """Change the last byte of the bank on the disk."""
    (file,) = (tmp_path / "state.sqlite-chunks").iterdir()
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


async def test_a_bank_that_the_disk_changed(serving: Serving, bank: Journal, tmp_path: Path) -> None:
    """The teacher finds it before the asker does, says so in its log, and the asker may ask again."""
    spoil(tmp_path)
    with capture_logs() as logs, pytest.raises(PeerBusyError, match="ask again"):
        await taught(serving)
    (damaged,) = [log for log in logs if log["event"] == "bank_damaged"]
    assert "chunk 1 of bank-" in damaged["error"]
    assert bank.load_bank("bank") is None
    bank.save_bank("bank", OFFER, CHUNKS)
    assert await taught(serving) == [OFFER, *CHUNKS, TeachEnd(2)]


async def test_a_bank_is_checked_again_after_a_stream_that_was_broken_off(
    serving: Serving, bank: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise once, but for the end of a stream: hashing all of each stream would cost too much."""
    monkeypatch.setattr("qkt_node.bank_reading.CHUNKS_UNDER_WAY", 1)
    contents = [Chunk(at, bytes([at])) for at in range(3)]
    offer = offer_of(tuple(contents))
    bank.save_bank("bank", offer, contents)
    assert await taught(serving) == [offer, *contents, TeachEnd(3)]
    (file,) = (tmp_path / "state.sqlite-chunks").iterdir()
    file.write_bytes(b"?" + file.read_bytes()[1:])
    first, *rest = await taught(serving)
    assert (first, rest[1:]) == (offer, [*contents[1:], TeachEnd(3)])
    async with aclosing(serving.teach(ASKER, TEACHING)) as broken_off:
        assert [await anext(broken_off), await anext(broken_off)] == [offer, Chunk(0, b"?")]
    with pytest.raises(PeerBusyError, match="ask again"):
        await taught(serving)


async def test_whoever_waits_is_told_its_place(serving: Serving, worker: StandInWorker) -> None:
    """One more waits until the first is done, and hears at once when its turn has come."""
    serving.teaching = Turns(ONE_AT_ONCE)
    worker.go.clear()
    first = asyncio.create_task(taught(serving))
    await worker.begun.wait()
    second, third = serving.teach(OTHER, TEACHING), serving.teach(ASKER, replace(TEACHING, seed=2))
    assert [await anext(second), await anext(third)] == [TeachWait(1), TeachWait(2)]
    assert (serving.teaching.running, serving.teaching.waiting) == (1, 2)
    worker.go.set()
    assert (await first)[-1] == TeachEnd(2)
    assert [part async for part in second] == [TeachWait(0), OFFER, *CHUNKS, TeachEnd(2)]
    assert [part async for part in third][-4:] == [OFFER, *CHUNKS, TeachEnd(2)]
    assert (serving.teaching.running, serving.teaching.waiting) == (0, 0)


async def test_signs_of_life_come_while_the_worker_works(
    serving: Serving, worker: StandInWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether a request waits or is worked on, the asker hears that the node lives."""
    monkeypatch.setattr(serving_module, "TEACH_WAIT_SECONDS", 0.001)
    serving.teaching = Turns(ONE_AT_ONCE)
    worker.go.clear()
    async with (
        aclosing(serving.teach(ASKER, TEACHING)) as first,
        aclosing(serving.teach(OTHER, TEACHING)) as second,
    ):
        assert [await anext(first) for _ in range(3)] == [TeachWait(0)] * 3
        assert [await anext(second) for _ in range(3)] == [TeachWait(1)] * 3
        worker.go.set()
        assert [part async for part in first if part != TeachWait(0)] == [OFFER, *CHUNKS, TeachEnd(2)]


async def test_whoever_leaves_makes_room(serving: Serving, worker: StandInWorker) -> None:
    """A caller that goes away leaves the queue, or ends the work on its request, at once."""
    serving.teaching = Turns(ONE_AT_ONCE)
    worker.go.clear()
    first = asyncio.create_task(taught(serving))
    await worker.begun.wait()
    second, third = serving.teach(OTHER, TEACHING), serving.teach(ASKER, TEACHING)
    assert [await anext(second), await anext(third)] == [TeachWait(1), TeachWait(2)]
    await second.aclose()
    assert await anext(third) == TeachWait(1)
    assert not worker.given_up.is_set()
    first.cancel()
    await asyncio.wait({first})
    assert worker.given_up.is_set()
    worker.go.set()
    assert [part async for part in third] == [TeachWait(0), OFFER, *CHUNKS, TeachEnd(2)]


async def test_the_same_is_made_once(serving: Serving, worker: StandInWorker) -> None:
    """Peers that ask for the same share its making, which outlives each of them but not all."""
    worker.go.clear()
    asking = [
        asyncio.create_task(
            taught(serving, replace(TEACHING, query_id=QueryId(str(number) * 16)), caller=peer)
        )
        for number, peer in enumerate((ASKER, OTHER, PeerId("c" * 52)))
    ]
    await worker.begun.wait()
    assert serving.teaching.running == 3
    asking.pop(0).cancel()
    worker.go.set()
    assert await asyncio.gather(*asking) == [[OFFER, *CHUNKS, TeachEnd(2)]] * 2
    assert worker.orders == [TeachOrder.of(TEACHING)]
    assert not worker.given_up.is_set()


async def test_banks_are_made_one_at_a_time(serving: Serving, worker: StandInWorker) -> None:
    """A probe finds the worker behind one of them, not behind all."""
    worker.go.clear()
    asking = [
        asyncio.create_task(taught(serving, replace(TEACHING, seed=seed), caller=peer))
        for seed, peer in enumerate((ASKER, OTHER))
    ]
    probing = asyncio.create_task(serving.probe(ASKER, PROBING))
    await worker.calls(2)
    assert PROBING in worker.asked
    assert len(worker.orders) == 1
    worker.go.set()
    await asyncio.gather(*asking, probing)
    assert len(worker.orders) == 2


async def test_too_many_are_sent_away_for_a_while(
    serving: Serving, worker: StandInWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the caps a caller is told when to come again, of probes as of teaching."""
    serving.teaching = Turns(Caps(1, 1))
    monkeypatch.setattr(serving, "_probing", Turns(Caps(1, 1)))
    worker.go.clear()
    running = [asyncio.create_task(taught(serving)), asyncio.create_task(serving.probe(ASKER, PROBING))]
    await worker.calls(2)
    for asking in (taught(serving), serving.probe(OTHER, PROBING)):
        with pytest.raises(PeerBusyError, match="1 calls run and 0 wait, ask again in") as raised:
            await asking
        assert 1 <= raised.value.retry_after <= 60
    worker.go.set()
    await asyncio.gather(*running)
    assert len(await taught(serving)) == 4


async def test_a_peer_is_sent_no_faster_than_the_owner_lets_it(
    host_in_memory: Host, worker: StandInWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each chunk is admitted by its size and its receiver before it is read."""
    admitted: list[tuple[PeerId, int]] = []

    async def admit(_: Throttle, peer: PeerId, amount: int) -> None:
        admitted.append((peer, amount))

    monkeypatch.setattr(Throttle, "admit", admit)
    serving, _ = host_in_memory.serving(worker, Terms(peer_bytes_per_second=65_536))
    await taught(serving)
    assert admitted == [(ASKER, len(chunk.data)) for chunk in CHUNKS]


async def test_a_node_that_stops_takes_no_new_work(serving: Serving, worker: StandInWorker) -> None:
    """Askers are told at once, and when to ask again: it may be back by then, or another one takes over."""
    serving._own.draining = True
    for asking in (serving.probe(ASKER, PROBING), taught(serving)):
        with pytest.raises(PeerBusyError, match="stopping") as raised:
            await asking
        assert raised.value.retry_after == STOPPING_SECONDS
    assert worker.asked == []


async def test_work_that_is_cut_short_by_a_stop_is_no_refusal(
    serving: Serving, worker: StandInWorker
) -> None:
    """The worker ends with its daemon; whoever waits for it is told what happened, not that it cannot be."""
    worker.failure = QktError("the learning worker was stopped")
    worker.go.clear()
    work = [asyncio.create_task(serving.probe(ASKER, PROBING)), asyncio.create_task(taught(serving))]
    await worker.calls(2)
    serving._own.draining = True
    worker.go.set()
    for each in work:
        with pytest.raises(PeerBusyError, match="stopping"):
            await each


async def test_a_node_that_stops_sends_away_who_waits(serving: Serving, worker: StandInWorker) -> None:
    """Whoever is taught already may have the rest."""
    serving.teaching = Turns(ONE_AT_ONCE)
    worker.go.clear()
    first = asyncio.create_task(taught(serving))
    await worker.begun.wait()
    second = serving.teach(OTHER, TEACHING)
    assert await anext(second) == TeachWait(1)
    serving.drain()
    with pytest.raises(PeerBusyError, match="stopping"):
        await anext(second)
    worker.go.set()
    assert (await first)[-1] == TeachEnd(2)
