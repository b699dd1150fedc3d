"""Peers that nobody can dial: how they attach, what they may be asked, and what they can do wrong.

The calls themselves are tested as on every other line, in test_calls.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field

import grpc
import pytest

from qkt_p2p.discovery import Pace
from qkt_p2p.errors import (
    BudgetSpentError,
    NotTrustedError,
    PeerError,
    PeerRefusedError,
    PeerUnavailableError,
    ProtocolError,
)
from qkt_p2p.identity.standing import Standing
from qkt_p2p.identity.trust import Identity
from qkt_p2p.transport import attach, reverse
from qkt_p2p.transport.answers import Answers
from qkt_p2p.transport.attach import AttachedLine, AttachingDialer
from qkt_p2p.transport.client import Deadlines, Line, PeerClient
from qkt_p2p.transport.methods import ANSWER, ATTACH, HELLO, PROBE, TEACH
from qkt_p2p.transport.server import PeerServer
from qkt_p2p.transport.tls import TlsLine
from qkt_p2p.types import Chunk, Heartbeat, PeerId, TeachPart
from qkt_p2p.wire.calls import AnswerPart, Call, CallEnd, decode_call, encode_answer_part
from tests.patience import patience
from tests.transport.members import ASKER_NODE, OFFER, REPORT, RESPONSE, TEACHER_NODE, Teacher
from tests.transport.members import PROBE as PROBE_REQUEST
from tests.transport.members import TEACH as TEACH_REQUEST

Members = tuple[Identity, Identity, Identity]
MEBIBYTE = 1024 * 1024
QUICK = Pace(redial=(0.001, 0.004))
PATIENT = Pace(redial=(1000.0, 1000.0))


@dataclass
class Asker:
    """A node that can be dialed; `attached` gets a line whenever a peer attaches, None when it ends."""

    own: Identity
    handler: Teacher = field(default_factory=Teacher)
    attached: asyncio.Queue[tuple[PeerId, Line | None]] = field(default_factory=asyncio.Queue)
    address: str = ""

    def __post_init__(self) -> None:
        self.server = PeerServer(self.handler, Standing(self.own), adopt=self._adopt)

    @property
    def peer(self) -> PeerId:
        return self.own.peer_id

    async def start(self) -> None:
        self.address = f"127.0.0.1:{await self.server.start('127.0.0.1:0')}"

    async def start_again(self) -> None:
        """Restart at the same address."""
        self.server = PeerServer(self.handler, Standing(self.own), adopt=self._adopt)
        await self.server.start(self.address)

    async def client(self) -> PeerClient:
        """Return a client of the next peer that attaches."""
        async with patience("a peer attaches"):
            while True:
                peer, line = await self.attached.get()
                if line is not None:
                    return PeerClient(peer, line)

    async def left(self) -> None:
        """Return when a peer has left."""
        async with patience("a peer leaves"):
            while (await self.attached.get())[1] is not None:
                pass

    @contextmanager
    def _adopt(self, peer: PeerId, line: Line) -> Iterator[None]:
        self.attached.put_nowait((peer, line))
        try:
            yield
        finally:
            self.attached.put_nowait((peer, None))


@pytest.fixture
async def asker(members: Members) -> AsyncIterator[Asker]:
    found = Asker(members[0])
    await found.start()
    yield found
    await found.server.stop(0)


Attach = Callable[..., Awaitable[PeerClient]]


@pytest.fixture
async def attach_to(members: Members, teacher: Teacher) -> AsyncIterator[Attach]:
    """Has the teacher dial an asker and lend it the connection."""
    made: list[PeerClient] = []

    async def attach_one(
        asker: Asker,
        authorize: Callable[[PeerId, str], None] = lambda _peer, _path: None,
        *,
        grace: float = 0,
        pace: Pace = QUICK,
    ) -> PeerClient:
        dialed = TlsLine(asker.peer, asker.address, members[1])
        answers = Answers(teacher)
        line = AttachedLine(asker.peer, dialed, answers, authorize=authorize, pace=pace, grace=grace)
        made.append(PeerClient(asker.peer, line))
        await made[-1].hello(TEACHER_NODE)
        return made[-1]

    yield attach_one
    for client in made:
        await client.close()


class RawPeer:
    """A member that attaches, and then answers as it likes."""

    def __init__(self, asker: Asker, own: Identity) -> None:
        self._line = TlsLine(asker.peer, asker.address, own)
        self._calls = self._line.stream(ATTACH.path, b"")

    async def attach(self) -> None:
        assert await self._next() is None

    async def call(self) -> Call:
        found = await self._next()
        assert found is not None
        return found

    async def answer(self, *parts: AnswerPart) -> None:
        """Answer and close; raises what the asker's node says of it."""
        upload = await self.begin(*parts)
        await upload.done_writing()
        await upload

    async def begin(self, *parts: AnswerPart) -> grpc.aio.StreamUnaryCall[bytes, bytes]:
        upload = self.upload()
        for part in parts:
            await upload.write(encode_answer_part(part).SerializeToString())
        return upload

    def upload(self) -> grpc.aio.StreamUnaryCall[bytes, bytes]:
        make: grpc.aio.StreamUnaryMultiCallable[bytes, bytes] = self._line.channel.stream_unary(ANSWER.path)
        return make()

    async def refusal(self, *parts: AnswerPart) -> str:
        """Return why an answer is refused."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.answer(*parts)
        return caught.value.details() or ""

    async def leave(self) -> None:
        await self._calls.aclose()
        await self._line.close()

    async def _next(self) -> Call | None:
        async with patience("a call comes"):
            return decode_call(ATTACH.answer.FromString(await anext(self._calls)))


@pytest.fixture
async def raw(asker: Asker, members: Members) -> AsyncIterator[RawPeer]:
    peer = RawPeer(asker, members[2])
    yield peer
    await peer.leave()


async def taught(client: PeerClient) -> list[TeachPart]:
    async with aclosing(client.teach(TEACH_REQUEST)) as parts:
        return [part async for part in parts]


async def test_a_node_that_only_dials_is_asked(asker: Asker, members: Members, teacher: Teacher) -> None:
    """A daemon's own parts: its dialer attaches; its server, which never listens, decides and answers."""
    standing = Standing(members[1])
    server = PeerServer(teacher, standing)
    client = AttachingDialer(standing, lambda: server).connect(asker.peer, asker.address)
    assert await client.hello(TEACHER_NODE) == TEACHER_NODE
    asking = await asker.client()
    assert asking.peer == members[1].peer_id
    assert await asking.probe(PROBE_REQUEST) == REPORT
    assert await taught(asking) == list(RESPONSE)
    assert teacher.callers == [asker.peer] * 2
    await client.close()
    with pytest.raises(PeerUnavailableError):
        await asking.probe(PROBE_REQUEST)


async def test_both_ask_over_one_connection(asker: Asker, attach_to: Attach, teacher: Teacher) -> None:
    """Lending the connection takes nothing from whoever opened it."""
    client = await attach_to(asker)
    asking = await asker.client()
    for _ in range(3):
        assert await asking.probe(PROBE_REQUEST) == REPORT
        assert await client.probe(PROBE_REQUEST) == REPORT
        assert await taught(client) == list(RESPONSE)
    assert len(teacher.callers) == 3


async def test_a_beat_behind_an_answer_is_waited_for(
    asker: Asker, attach_to: Attach, teacher: Teacher
) -> None:
    """It goes the way of what this node sends: on a slow link it is late, and the answer not lost for it."""
    client = await attach_to(asker)
    impatient = PeerClient(asker.peer, client._line, Deadlines(heartbeat=0.0))
    beat = Heartbeat(draining=False, model_version=1)
    asking = await asker.client()
    asker.handler.busy = teacher.busy = True
    with pytest.raises(PeerUnavailableError, match="no answer within 0"):
        await impatient.heartbeat(beat)
    probing = asyncio.create_task(asking.probe(PROBE_REQUEST))
    async with patience("the probe arrives"):
        await teacher.began.wait()
    asker.handler.began.clear()
    beating = asyncio.create_task(impatient.heartbeat(beat))
    async with patience("the beat arrives"):
        await asker.handler.began.wait()
    asker.handler.release.set()
    assert not (await beating).draining
    teacher.release.set()
    assert await probing == REPORT


async def test_an_asker_that_takes_nothing_loses_the_answer(
    asker: Asker, attach_to: Attach, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can hold a place among those who are taught without reading."""
    monkeypatch.setattr(attach, "STREAM_STALL_SECONDS", 0.1)
    await attach_to(asker)
    asking = await asker.client()
    teacher.response = [OFFER, *(Chunk(0, bytes(MEBIBYTE)) for _ in range(40))]
    parts = asking.teach(TEACH_REQUEST)
    assert await anext(parts) == OFFER
    async with patience("the answer ends"):
        await teacher.ended.wait()
    with pytest.raises(PeerUnavailableError):
        async for _ in parts:
            pass


async def test_a_flood_of_calls_is_capped(
    asker: Asker, attach_to: Attach, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An asker that heeds no cap of its own meets that of the node which it asks."""
    monkeypatch.setattr(reverse, "MAX_ATTACHED_CALLS", 1000)
    monkeypatch.setattr(attach, "MAX_ATTACHED_CALLS", 3)
    await attach_to(asker)
    asking = await asker.client()
    teacher.busy = True
    calls = [asyncio.ensure_future(asking.probe(PROBE_REQUEST)) for _ in range(20)]
    refused: list[str] = []
    for each in asyncio.as_completed(calls):
        with pytest.raises(PeerRefusedError, match="3 calls of this peer run already") as caught:
            await each
        refused.append(caught.value.message)
        if len(refused) == 17:
            break
    assert len(teacher.callers) == 3
    teacher.release.set()
    done = await asyncio.gather(*calls, return_exceptions=True)
    assert done.count(REPORT) == 3


async def test_a_node_makes_no_flood(
    asker: Asker, attach_to: Attach, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls that wait for an answer are counted; those that were given up make room."""
    monkeypatch.setattr(reverse, "MAX_ATTACHED_CALLS", 2)
    await attach_to(asker)
    asking = await asker.client()
    teacher.busy = True
    calls = [asyncio.ensure_future(asking.probe(PROBE_REQUEST)) for _ in range(2)]
    await teacher.began.wait()
    with pytest.raises(PeerRefusedError, match="2 calls to it run already"):
        await asking.probe(PROBE_REQUEST)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    teacher.busy = False
    assert await asking.probe(PROBE_REQUEST) == REPORT


async def test_a_caller_that_may_not_is_told_so(asker: Asker, attach_to: Attach, teacher: Teacher) -> None:
    """The same policy holds for calls that come this way; they do not reach the handler."""

    def authorize(peer: PeerId, path: str) -> None:
        assert peer == asker.peer
        if path == TEACH.path:
            raise NotTrustedError("only friends are taught")

    await attach_to(asker, authorize)
    asking = await asker.client()
    assert await asking.probe(PROBE_REQUEST) == REPORT
    with pytest.raises(NotTrustedError, match="only friends are taught"):
        await taught(asking)
    assert teacher.heard == [PROBE_REQUEST]


async def test_a_caller_that_is_revoked_is_taught_no_further(
    asker: Asker, attach_to: Attach, teacher: Teacher
) -> None:
    """Who may call is asked again before every part."""
    revoked = False

    def authorize(_peer: PeerId, _path: str) -> None:
        if revoked:
            raise NotTrustedError("the peer is revoked")

    await attach_to(asker, authorize)
    asking = await asker.client()
    teacher.response = [OFFER, *(Chunk(0, bytes(MEBIBYTE)) for _ in range(64))]
    parts = asking.teach(TEACH_REQUEST)
    assert await anext(parts) == OFFER
    revoked = True
    with pytest.raises(NotTrustedError, match="the peer is revoked"):
        async for _ in parts:
            pass


async def test_a_method_that_there_is_none_is_refused(
    members: Members, asker: Asker, attach_to: Attach
) -> None:
    """A newer asker learns that this version does not answer it."""
    await attach_to(asker)
    _, line = await asker.attached.get()
    assert line is not None
    for name in ("Fetch", ATTACH.name, ANSWER.name):
        with pytest.raises(PeerRefusedError, match=f"this node answers no {name}"):
            await line.ask(HELLO.path.replace("Hello", name), b"", seconds=5)


async def test_a_failure_inside_the_node_shows_nothing_of_it(
    asker: Asker, attach_to: Attach, teacher: Teacher
) -> None:
    """As over every line, the asker learns that something failed and no more."""
    await attach_to(asker)
    asking = await asker.client()
    teacher.failure = ValueError("/home/someone/secret")
    with pytest.raises(PeerError, match="internal error") as caught:
        await asking.probe(PROBE_REQUEST)
    assert "secret" not in caught.value.message


async def test_a_node_attaches_again(asker: Asker, attach_to: Attach, members: Members) -> None:
    """A later attachment of a peer takes the place of the one before, which is tried again after a pause."""
    await attach_to(asker)
    first = await asker.client()
    other = RawPeer(asker, members[1])
    await other.attach()
    await asker.client()
    again = await asker.client()
    assert await again.probe(PROBE_REQUEST) == REPORT
    with pytest.raises(PeerUnavailableError, match="no longer attached"):
        await first.probe(PROBE_REQUEST)
    await other.leave()
    assert await again.probe(PROBE_REQUEST) == REPORT


async def test_a_node_attaches_again_as_soon_as_the_peer_is_heard(
    asker: Asker, attach_to: Attach, members: Members
) -> None:
    """A peer that restarts while this node waits is not left with a greeting and no way to ask."""
    client = await attach_to(asker, pace=PATIENT)
    await asker.client()
    await asker.server.stop(0)
    await asker.left()
    await asker.start_again()
    await client.hello(TEACHER_NODE)
    assert await (await asker.client()).probe(PROBE_REQUEST) == REPORT


async def test_a_node_that_is_not_let_in_can_ask_all_the_same(
    asker: Asker, attach_to: Attach, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peer that has enough attached peers is tried again, and what this node asks is answered meanwhile."""
    monkeypatch.setattr(reverse, "MAX_ATTACHED_PEERS", 0)
    client = await attach_to(asker)
    assert await client.probe(PROBE_REQUEST) == REPORT
    assert asker.attached.empty()
    monkeypatch.undo()
    assert await (await asker.client()).probe(PROBE_REQUEST) == REPORT


async def test_whoever_leaves_finishes_its_answers(asker: Asker, attach_to: Attach, teacher: Teacher) -> None:
    """A node that stops, or needs a connection no longer, lets the peer have what it began to send."""
    client = await attach_to(asker, grace=60)
    asking = await asker.client()
    teacher.busy = True
    parts = asking.teach(TEACH_REQUEST)
    assert await anext(parts) == OFFER
    closing = asyncio.ensure_future(client.close())
    await asker.left()
    with pytest.raises(PeerUnavailableError, match="no longer attached"):
        await asking.probe(PROBE_REQUEST)
    teacher.release.set()
    assert [part async for part in parts] == list(RESPONSE[1:])
    await closing


async def test_a_server_that_stops_lets_its_attached_peers_go(asker: Asker, attach_to: Attach) -> None:
    """They would hold it up for all of its patience."""
    await attach_to(asker)
    await asker.client()
    async with patience("the server stops"):
        await asker.server.stop(60)


async def test_a_peer_that_vanishes_leaves(asker: Asker, raw: RawPeer) -> None:
    """Nobody is asked over a connection that is gone."""
    await raw.attach()
    client = await asker.client()
    calling = asyncio.ensure_future(client.probe(PROBE_REQUEST))
    await raw.call()
    await raw.leave()
    with pytest.raises(PeerUnavailableError, match="went away before it answered"):
        await calling
    await asker.left()


async def test_calls_are_numbered_and_carry_their_request(asker: Asker, raw: RawPeer) -> None:
    """An asker that gave up is not answered, and its call is sent to nobody."""
    await raw.attach()
    client = await asker.client()
    for number in (1, 2):
        calling = asyncio.ensure_future(client.probe(PROBE_REQUEST))
        call = await raw.call()
        assert (call.number, call.method) == (number, PROBE.name)
        assert PROBE.request.FromString(call.request).query_id == PROBE_REQUEST.query_id
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
        assert await raw.refusal(number) == f"no call {number} waits for an answer"


async def test_an_answer_to_no_call_is_refused(asker: Asker, raw: RawPeer) -> None:
    """Whoever was not asked cannot make this node hold anything."""
    assert await raw.refusal(1) == "the caller is not attached"
    await raw.attach()
    assert await raw.refusal(7) == "no call 7 waits for an answer"
    assert await raw.refusal(b"answer") == "an answer does not begin with the number of its call"
    assert await raw.refusal(CallEnd()) == "an answer does not begin with the number of its call"
    assert await raw.refusal() == "a part of an answer holds nothing"


async def test_an_answer_that_names_no_call_in_time_is_refused(
    raw: RawPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that was begun and left open is closed."""
    monkeypatch.setattr(reverse, "CALL_SECONDS", 0.05)
    await raw.attach()
    with pytest.raises(grpc.aio.AioRpcError, match="did not say in time"):
        await raw.upload()


async def test_a_call_is_answered_once(asker: Asker, raw: RawPeer) -> None:
    """A second answer to a call is refused, and disturbs the first in nothing."""
    await raw.attach()
    client = await asker.client()
    calling = asyncio.ensure_future(taught(client))
    call = await raw.call()
    upload = await raw.begin(call.number)
    async with patience("the first answer is taken"):
        while "waits" not in await raw.refusal(call.number):
            # The first answer may still be on its way, though it was sent before.
            pass
    await upload.write(encode_answer_part(CallEnd()).SerializeToString())
    assert await calling == []
    await upload


async def test_nobody_answers_for_another(asker: Asker, raw: RawPeer, members: Members) -> None:
    """The number of a call is no secret, and need not be: calls are those to the peer in the certificate."""
    await raw.attach()
    client = await asker.client()
    calling = asyncio.ensure_future(client.probe(PROBE_REQUEST))
    call = await raw.call()
    other = RawPeer(asker, members[1])
    assert await other.refusal(call.number) == "the caller is not attached"
    await other.attach()
    assert await other.refusal(call.number) == f"no call {call.number} waits for an answer"
    await other.leave()
    calling.cancel()


@pytest.mark.parametrize(
    ("parts", "kind", "message"),
    [
        ([], PeerUnavailableError, "the answer broke off"),
        ([b"", CallEnd(17)], ProtocolError, "status: 17"),
        ([CallEnd()], ProtocolError, "it is not one message"),
        ([b"", b"", CallEnd()], ProtocolError, "it is not one message"),
        ([b"\xff", CallEnd()], ProtocolError, "1 bytes are not a ProbeResponse"),
        ([CallEnd(7, "no\x1b[2J")], NotTrustedError, "no\N{REPLACEMENT CHARACTER}\\[2J"),
        ([CallEnd(11, "spent")], BudgetSpentError, "spent"),
        ([1], PeerUnavailableError, "the answer broke off"),
    ],
)
async def test_what_is_no_answer_is_an_error(
    asker: Asker, raw: RawPeer, parts: list[AnswerPart], kind: type[Exception], message: str
) -> None:
    """Whatever a peer sends, whoever asked gets an error that names the peer."""
    await raw.attach()
    client = await asker.client()
    calling = asyncio.ensure_future(client.probe(PROBE_REQUEST))
    call = await raw.call()
    upload = await raw.begin(call.number, *parts)
    await upload.done_writing()
    with pytest.raises(kind, match=message):
        await calling
    await upload


async def test_bytes_that_are_no_part_are_a_protocol_error(asker: Asker, raw: RawPeer) -> None:
    """Also where a frame itself is malformed."""
    await raw.attach()
    client = await asker.client()
    calling = asyncio.ensure_future(client.probe(PROBE_REQUEST))
    call = await raw.call()
    upload = await raw.begin(call.number)
    await upload.write(b"\xff")
    with pytest.raises(ProtocolError, match="1 bytes are not a AnswerRequest"):
        await calling


async def test_a_greeting_is_no_call(asker: Asker, attach_to: Attach, teacher: Teacher) -> None:
    """A node that is greeted by a peer of whom it asks nothing answers nothing."""
    client = await attach_to(asker)
    await asker.client()
    assert await client.hello(ASKER_NODE) == TEACHER_NODE
    assert teacher.callers == []
