"""What others say of a peer, and peers that broke the protocol, on a clock that the test moves."""

from __future__ import annotations

import pytest

from qkt_p2p.discovery import Conduct, FoundBy, Membership, MemberState
from qkt_p2p.limits import ABSENCE_SECONDS, BAN_SECONDS, HEARSAY_SILENT_AFTER_SECONDS, SILENT_AFTER_SECONDS
from qkt_p2p.types import NodeDescription, PeerAddress, PeerId
from tests.clock import Clock

NODE = NodeDescription(1, "node", "1", (), (), (), 4)
PEER = PeerId("a" * 52)


@pytest.fixture
def clock() -> Clock:
    return Clock(1000.0)


@pytest.fixture
def membership(clock: Clock) -> Membership:
    return Membership(clock)


def told(age: float = 0.0) -> PeerAddress:
    return PeerAddress(PEER, ("10.0.0.1:7447",), "ward-7", age)


def state(membership: Membership) -> MemberState:
    (member,) = membership.members()
    return member.state


def test_a_peer_known_by_hearsay_is_live_for_longer(membership: Membership, clock: Clock) -> None:
    """News takes its way, so its silence counts later; the name is known at once."""
    membership.hearsay(told())
    (member,) = membership.members()
    assert (member.description.node_name, member.found_by) == ("ward-7", FoundBy.EXCHANGE)
    clock.now += SILENT_AFTER_SECONDS + 1
    assert state(membership) is MemberState.LIVE
    clock.now += HEARSAY_SILENT_AFTER_SECONDS
    assert state(membership) is MemberState.SILENT
    membership.hearsay(told(age=3))
    assert state(membership) is MemberState.LIVE


def test_old_news_of_a_lost_peer_says_nothing(membership: Membership, clock: Clock) -> None:
    """Who told it may not have noticed the loss yet; later news counts."""
    membership.introduce(PEER, NODE, address="10.0.0.1:7447", found_by=FoundBy.MDNS)
    clock.now += 1
    membership.lose(PEER)
    clock.now += 2
    membership.hearsay(told(age=2.5))
    assert state(membership) is MemberState.SILENT
    clock.now += SILENT_AFTER_SECONDS
    membership.hearsay(told(age=0.5))
    assert state(membership) is MemberState.LIVE


def test_hearsay_does_not_outweigh_what_is_heard_directly(membership: Membership, clock: Clock) -> None:
    """A peer that beats is judged by its own beats, whatever others say of its name."""
    membership.introduce(PEER, NODE, address="10.0.0.1:7447", found_by=FoundBy.MDNS)
    clock.now += 1
    membership.hearsay(told(age=0))
    (member,) = membership.members()
    assert (member.description, member.last_seen) == (NODE, 1.0)


def test_a_released_peer_is_judged_by_hearsay(membership: Membership, clock: Clock) -> None:
    """A connection that is not needed any more ends without the peer counting as silent."""
    membership.introduce(PEER, NODE, address="10.0.0.1:7447", found_by=FoundBy.MDNS)
    membership.release(PEER)
    clock.now += SILENT_AFTER_SECONDS + 1
    assert state(membership) is MemberState.LIVE


def test_bans_grow_end_and_are_forgiven(membership: Membership, clock: Clock) -> None:
    """A banned peer is not live; each ban is twice as long, up to a bound; good teaching clears the slate."""
    membership.introduce(PEER, NODE, address="10.0.0.1:7447", found_by=FoundBy.MDNS)
    first, longest = BAN_SECONDS
    assert membership.judge(PEER, Conduct.BROKE_PROTOCOL) == first
    assert state(membership) is MemberState.BANNED
    assert membership.live() == []
    assert [member.peer for member in membership.left_alone()] == [PEER]
    clock.now += first + 1
    membership.hear(PEER, draining=False)
    assert state(membership) is MemberState.LIVE
    assert membership.judge(PEER, Conduct.BROKE_PROTOCOL) == 2 * first
    assert max(membership.judge(PEER, Conduct.BROKE_PROTOCOL) for _ in range(40)) == longest
    assert membership.judge(PEER, Conduct.TAUGHT) == 0
    assert membership.judge(PEER, Conduct.BROKE_PROTOCOL) == first


def test_a_peer_that_goes_away_again_and_again_is_left_alone(membership: Membership, clock: Clock) -> None:
    """Once may happen to everybody; from the second time in a row on the pauses grow, until it teaches."""
    membership.introduce(PEER, NODE, address="10.0.0.1:7447", found_by=FoundBy.MDNS)
    first, longest = ABSENCE_SECONDS
    assert membership.judge(PEER, Conduct.WENT_AWAY) == 0
    assert state(membership) is MemberState.LIVE
    assert membership.judge(PEER, Conduct.WENT_AWAY) == first
    assert state(membership) is MemberState.BANNED
    clock.now += first + 1
    membership.hear(PEER, draining=False)
    assert state(membership) is MemberState.LIVE
    assert membership.judge(PEER, Conduct.WENT_AWAY) == 2 * first
    assert max(membership.judge(PEER, Conduct.WENT_AWAY) for _ in range(2000)) == longest
    membership.judge(PEER, Conduct.TAUGHT)
    assert membership.judge(PEER, Conduct.WENT_AWAY) == 0


def test_a_short_absence_does_not_end_a_long_ban(membership: Membership, clock: Clock) -> None:
    """What it did worst decides how long a peer is left alone."""
    membership.introduce(PEER, NODE, address="10.0.0.1:7447", found_by=FoundBy.MDNS)
    for _ in range(3):
        longest = membership.judge(PEER, Conduct.BROKE_PROTOCOL)
    for _ in range(2):
        shorter = membership.judge(PEER, Conduct.WENT_AWAY)
    assert shorter < longest
    clock.now += longest - 1
    assert state(membership) is MemberState.BANNED


@pytest.mark.parametrize("conduct", list(Conduct))
def test_who_is_not_known_is_not_banned(membership: Membership, conduct: Conduct) -> None:
    """A ban of a stranger has no effect, and no entry is made for it."""
    for _ in range(3):
        assert membership.judge(PEER, conduct) == 0
    assert membership.members() == []
