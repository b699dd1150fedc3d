"""How often strangers may call, and how fast a peer is sent to."""

import asyncio

import pytest

from qkt_p2p.errors import PeerRefusedError
from qkt_p2p.limits import ENROLLMENT_ADDRESSES, MAX_PEERS
from qkt_p2p.transport.pace import RateLimiter, Throttle, address_in
from qkt_p2p.types import PeerId
from tests.clock import Clock


def admitted(limiter: RateLimiter, address: str, calls: int) -> int:
    """Return how many of `calls` at this moment are admitted."""
    count = 0
    for _ in range(calls):
        try:
            limiter.admit(address)
        except PeerRefusedError:
            continue
        count += 1
    return count


def test_an_address_has_an_allowance_that_grows_back() -> None:
    """Some calls at once, then as many as the rate gives, and never more than at the beginning."""
    clock = Clock()
    limiter = RateLimiter(each=(2.0, 10), total=1000.0, clock=clock)
    assert admitted(limiter, "a", 50) == 10
    clock.now = 1.0
    assert admitted(limiter, "a", 50) == 2
    assert admitted(limiter, "b", 50) == 10
    clock.now = 1000.0
    assert admitted(limiter, "a", 50) == 10


@pytest.mark.parametrize(("rate", "seconds"), [(2.0, 1), (1.0, 1), (0.4, 3)])
def test_who_calls_too_often_is_told_how_long_to_wait(rate: float, seconds: int) -> None:
    """Whole seconds after which a call is let in, and never none."""
    clock = Clock()
    limiter = RateLimiter(each=(rate, 1), total=1000.0, clock=clock)
    limiter.admit("a")
    with pytest.raises(PeerRefusedError, match=f"wait {seconds} s, then repeat"):
        limiter.admit("a")
    clock.now = seconds
    limiter.admit("a")


def test_all_addresses_together_have_one_too() -> None:
    """A flood from many addresses is held at the total; one address alone cannot use it up."""
    clock = Clock()
    limiter = RateLimiter(each=(1.0, 10), total=30.0, clock=clock)
    assert admitted(limiter, "a", 500) == 10
    assert sum(admitted(limiter, f"b{number}", 1) for number in range(100)) == 20
    with pytest.raises(PeerRefusedError, match="from all addresses"):
        limiter.admit("c")


def test_the_memory_is_bounded() -> None:
    """The address that was silent longest is forgotten first."""
    clock = Clock()
    limiter = RateLimiter(each=(1.0, 1), total=1e9, clock=clock)
    assert admitted(limiter, "first", 2) == 1
    for number in range(ENROLLMENT_ADDRESSES):
        limiter.admit(f"b{number}")
    assert admitted(limiter, f"b{ENROLLMENT_ADDRESSES - 1}", 1) == 0
    assert admitted(limiter, "first", 1) == 1


A, B = PeerId("a" * 52), PeerId("b" * 52)


class Sender:
    """Sends through a throttle; its sleep lets the clock go on, in the order of the sleepers' ends."""

    def __init__(self, rate: float) -> None:
        self.clock = Clock()
        self.slept = 0
        self.throttle = Throttle(rate, clock=self.clock, sleep=self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.slept += 1
        until = self.clock.now + seconds
        await asyncio.sleep(0)
        self.clock.now = max(self.clock.now, until)

    async def send(self, peer: PeerId, *amounts: int) -> list[float]:
        """Return when each amount may go."""
        times = []
        for amount in amounts:
            await self.throttle.admit(peer, amount)
            times.append(round(self.clock.now, 6))
            # As where it is written to a connection.
            await asyncio.sleep(0)
        return times


async def test_a_peer_is_sent_so_much_a_second() -> None:
    """One second's bytes at once, then as the rate gives; what is larger than a second's has its time too."""
    sender = Sender(100)
    assert await sender.send(A, 60, 40, 50, 50) == [0, 0, 0.5, 1.0]
    sender.clock.now = 100.0
    assert await sender.send(A, 100, 300, 100) == [100, 101, 104]


async def test_one_peers_rate_is_not_anothers() -> None:
    """Whoever has used up its own holds up nobody."""
    sender = Sender(100)
    await sender.send(A, 100)
    assert await sender.send(B, 100) == [0]


async def test_a_peers_streams_take_turns() -> None:
    """Two streams of one peer get a chunk each, in turn, and together no more than the rate."""
    sender = Sender(100)
    first, second = await asyncio.gather(sender.send(A, 50, 50, 50), sender.send(A, 50, 50, 50))
    assert sorted([*first, *second]) == [0, 0, 0.5, 1.0, 1.5, 2.0]
    assert abs(first[-1] - second[-1]) == 0.5


async def test_whoever_goes_away_has_taken_nothing() -> None:
    """A stream that ends while it waits leaves its turn and its bytes to the next."""
    throttle = Throttle(100, clock=(clock := Clock()))
    await throttle.admit(A, 100)
    waiting = asyncio.create_task(throttle.admit(A, 100))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    clock.now = 1.0
    await throttle.admit(A, 100)


async def test_without_a_rate_nothing_waits() -> None:
    """By default a peer gets what it takes."""
    sender = Sender(0)
    assert await sender.send(A, 10**12, 10**12) == [0, 0]
    assert sender.slept == 0


async def test_the_memory_of_peers_is_bounded() -> None:
    """The peer silent for longest is forgotten first; nobody gains by it, for it had the rest by then."""
    sender = Sender(100)
    for number in range(MAX_PEERS + 5):
        await sender.send(PeerId(f"{number:052}"), 100)
    assert len(sender.throttle._lanes) == MAX_PEERS
    assert sender.slept == 0


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:192.0.2.1:50000", "192.0.2.1"),
        ("ipv6:%5B2001:db8::1:2:3:4%5D:50000", "2001:db8::/64"),
        ("ipv6:[2001:db8:0:0:ffff::1]:1", "2001:db8::/64"),
        ("ipv6:%5B::ffff:192.0.2.1%5D:50000", "192.0.2.1"),
        ("ipv6:%5Bfe80::1%25eth0%5D:50000", "fe80::/64"),
        ("ipv6:%5B::1%5D:50000", "::1"),
        ("unix:", "unix:"),
    ],
)
def test_an_address_is_what_one_caller_has(peer: str, address: str) -> None:
    """Of IPv6 the whole network, and never the port."""
    assert address_in(peer) == address
