"""Whose turn it is: nobody passes the caps, nobody is starved, and a place in the queue is what it says."""

from __future__ import annotations

from collections import defaultdict
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkt_node.turns import Caps, Turn, Turns
from qkt_p2p.errors import PeerBusyError, PeerRefusedError
from qkt_p2p.types import PeerId
from tests.clock import Clock

PEERS = [PeerId(letter * 52) for letter in "abcd"]
A, B, C, D = PEERS


@dataclass
class Calls:
    """Calls that enter and leave; each is known by its peer and its number among that peer's."""

    turns: Turns
    entered: dict[Turn, AbstractContextManager[Turn]] = field(default_factory=dict)
    served: list[Turn] = field(default_factory=list)

    def enter(self, peer: PeerId) -> Turn:
        manager = self.turns.take(peer)
        turn = manager.__enter__()
        self.entered[turn] = manager
        self._note()
        return turn

    def leave(self, turn: Turn) -> None:
        self.entered.pop(turn).__exit__(None, None, None)
        self._note()

    def waiting(self) -> list[Turn]:
        return [turn for turn in self.entered if turn.ahead]

    def running(self) -> list[Turn]:
        return [turn for turn in self.entered if not turn.ahead]

    def _note(self) -> None:
        self.served += [turn for turn in self.running() if turn not in self.served]


def test_peers_take_turns() -> None:
    """Many calls of one peer hold up no other; each peer's are served as they came."""
    calls = Calls(Turns(Caps(running=1, running_of_peer=1, waiting=10, waiting_of_peer=10)))
    first = calls.enter(A)
    many = [calls.enter(A) for _ in range(3)]
    late = [calls.enter(B), calls.enter(C), calls.enter(B)]
    assert [turn.ahead for turn in (first, *many, *late)] == [0, 1, 4, 6, 2, 3, 5]
    for _ in range(6):
        calls.leave(calls.running()[0])
    assert calls.served == [first, many[0], late[0], late[1], many[1], late[2], many[2]]


def test_a_peer_that_has_enough_lets_others_pass() -> None:
    """Its next call waits although there is room, and begins when one of its own ends."""
    calls = Calls(Turns(Caps(running=3, running_of_peer=2, waiting=10, waiting_of_peer=10)))
    own = [calls.enter(A) for _ in range(3)]
    other = calls.enter(B)
    assert [turn.ahead for turn in (*own, other)] == [0, 0, 1, 0]
    calls.leave(other)
    assert own[2].ahead == 1
    calls.leave(own[0])
    assert own[2].ahead == 0


@pytest.mark.parametrize(
    ("caps", "peers", "message"),
    [
        (Caps(2, 2), [A, B], "2 calls run and 0 wait"),
        (Caps(2, 2, waiting=1, waiting_of_peer=1), [A, B, C], "2 calls run and 1 wait"),
        (Caps(9, 1, waiting=9, waiting_of_peer=1), [A, A], "of this peer 1 calls run and 1 wait"),
    ],
)
def test_one_too_many_is_sent_away(caps: Caps, peers: list[PeerId], message: str) -> None:
    """It takes no place, and there is room again when one has left."""
    turns = Turns(caps)
    with ExitStack() as entered:
        for peer in peers[1:]:
            entered.enter_context(turns.take(peer))
        with turns.take(peers[0]):
            before = (turns.running, turns.waiting)
            with pytest.raises(PeerBusyError, match=message), turns.take(A):
                pass
            assert (turns.running, turns.waiting) == before
        with turns.take(A):
            pass
    assert (turns.running, turns.waiting) == (0, 0)


def test_when_to_come_again_follows_from_how_long_calls_take() -> None:
    """The mean of recent calls, times those that are ahead, by how many run at once; and a little chance."""
    clock = Clock()
    turns = Turns(Caps(running=2, running_of_peer=2, waiting=4, waiting_of_peer=4), clock=clock)
    for _ in range(16):
        with turns.take(A):
            clock.now += 10
    with ExitStack() as entered:
        for peer in (A, A, B, B, C, C):
            entered.enter_context(turns.take(peer))
        found = set()
        for _ in range(20):
            with pytest.raises(PeerBusyError) as raised, turns.take(D):
                pass
            found.add(raised.value.retry_after)
    # Ahead of a first call of another peer are the first of B and of C.
    assert all(15 <= seconds <= 22.5 for seconds in found)
    assert len(found) > 1


async def test_a_place_is_told_when_it_is_better_or_time_has_passed() -> None:
    """A place that has become worse waits for its time, so nobody can make another's stream busy."""
    calls = Calls(Turns(Caps(running=1, running_of_peer=1, waiting=10, waiting_of_peer=10)))
    first = calls.enter(A)
    calls.enter(A)
    third = calls.enter(A)
    told = third.positions(1000.0)
    assert await anext(told) == 2
    calls.enter(B)
    assert third.ahead == 3
    calls.leave(first)
    calls.leave(calls.running()[0])
    assert await anext(told) == 1
    calls.leave(calls.running()[0])
    assert [ahead async for ahead in told] == [0]
    often = calls.enter(A).positions(0.0001)
    assert [await anext(often) for _ in range(3)] == [1, 1, 1]
    await often.aclose()


async def test_a_call_that_need_not_wait_has_no_place() -> None:
    """Nothing is told of a queue that is empty."""
    with Turns(Caps(1, 1)).take(A) as turn:
        assert [ahead async for ahead in turn.positions(1000.0)] == []


async def test_who_waits_can_be_sent_away() -> None:
    """Those that run may go on."""
    calls = Calls(Turns(Caps(running=1, running_of_peer=1, waiting=4, waiting_of_peer=4)))
    first, second = calls.enter(A), calls.enter(B)
    told = second.positions(1000.0)
    assert await anext(told) == 1
    calls.turns.refuse_waiting(PeerRefusedError("no more"))
    with pytest.raises(PeerRefusedError, match="no more"):
        await anext(told)
    calls.leave(second)
    assert (first.ahead, calls.turns.running, calls.turns.waiting) == (0, 1, 0)


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["enter", "enter", "end", "leave"]), st.integers(0, 7)), max_size=60
)
CAPS = st.builds(
    Caps,
    running=st.integers(1, 4),
    running_of_peer=st.integers(1, 3),
    waiting=st.integers(0, 12),
    waiting_of_peer=st.integers(0, 6),
)


@given(CAPS, ACTIONS)
def test_whatever_comes_and_goes(caps: Caps, actions: list[tuple[str, int]]) -> None:
    """The caps hold, no place is left empty that someone may take, and places are those of the order."""
    calls = Calls(Turns(caps))
    firsts: dict[Turn, int] = {}
    for action, number in actions:
        among = {"enter": [], "end": calls.running(), "leave": calls.waiting()}[action]
        if among:
            calls.leave(among[number % len(among)])
        elif action == "enter":
            enter_unless_busy(calls, PEERS[number % len(PEERS)], caps)
        check(calls, caps)
        # The first that waits of its peer never sees its place grow.
        now = {queue[0]: queue[0].ahead for queue in by_peer(calls.waiting()).values()}
        assert all(now[turn] <= before for turn, before in firsts.items() if turn in now)
        firsts = now
    for turn in [*calls.waiting(), *calls.running()]:
        calls.leave(turn)
    assert (calls.turns.running, calls.turns.waiting) == (0, 0)


def by_peer(turns: list[Turn]) -> dict[PeerId, list[Turn]]:
    found: dict[PeerId, list[Turn]] = defaultdict(list)
    for turn in turns:
        found[turn.peer].append(turn)
    return found


def enter_unless_busy(calls: Calls, peer: PeerId, caps: Caps) -> None:
    running, waiting = calls.running(), calls.waiting()
    own_running, own_waiting = by_peer(running)[peer], by_peer(waiting)[peer]
    room = len(running) < caps.running and len(own_running) < caps.running_of_peer
    if room or (len(waiting) < caps.waiting and len(own_waiting) < caps.waiting_of_peer):
        calls.enter(peer)
        return
    with pytest.raises(PeerBusyError):
        calls.enter(peer)


def check(calls: Calls, caps: Caps) -> None:
    running, waiting = calls.running(), calls.waiting()
    assert (calls.turns.running, calls.turns.waiting) == (len(running), len(waiting))
    assert len(running) <= caps.running
    assert len(waiting) <= caps.waiting
    assert sorted(turn.ahead for turn in waiting) == list(range(1, len(waiting) + 1))
    for peer, own in by_peer(waiting).items():
        assert len(own) <= caps.waiting_of_peer
        assert [turn.ahead for turn in own] == sorted(turn.ahead for turn in own)
        # Who waits while there is room waits for its own.
        assert len(running) == caps.running or len(by_peer(running)[peer]) == caps.running_of_peer
    assert all(len(own) <= caps.running_of_peer for own in by_peer(running).values())
