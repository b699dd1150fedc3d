"""How often strangers may call."""

import pytest

from qkt_p2p.errors import PeerRefusedError
from qkt_p2p.limits import ENROLLMENT_ADDRESSES
from qkt_p2p.transport.pace import Pace, address_in


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def admitted(pace: Pace, address: str, calls: int) -> int:
    """Return how many of `calls` at this moment are admitted."""
    count = 0
    for _ in range(calls):
        try:
            pace.admit(address)
        except PeerRefusedError:
            continue
        count += 1
    return count


def test_an_address_has_an_allowance_that_grows_back() -> None:
    """Some calls at once, then as many as the rate gives, and never more than at the beginning."""
    clock = Clock()
    pace = Pace(each=(2.0, 10), total=1000.0, clock=clock)
    assert admitted(pace, "a", 50) == 10
    clock.now = 1.0
    assert admitted(pace, "a", 50) == 2
    assert admitted(pace, "b", 50) == 10
    clock.now = 1000.0
    assert admitted(pace, "a", 50) == 10


def test_all_addresses_together_have_one_too() -> None:
    """A flood from many addresses is held at the total; one address alone cannot use it up."""
    clock = Clock()
    pace = Pace(each=(1.0, 10), total=30.0, clock=clock)
    assert admitted(pace, "a", 500) == 10
    assert sum(admitted(pace, f"b{number}", 1) for number in range(100)) == 20
    with pytest.raises(PeerRefusedError, match="from all addresses"):
        pace.admit("c")


def test_the_memory_is_bounded() -> None:
    """The address that was silent longest is forgotten first."""
    clock = Clock()
    pace = Pace(each=(1.0, 1), total=1e9, clock=clock)
    assert admitted(pace, "first", 2) == 1
    for number in range(ENROLLMENT_ADDRESSES):
        pace.admit(f"b{number}")
    assert admitted(pace, f"b{ENROLLMENT_ADDRESSES - 1}", 1) == 0
    assert admitted(pace, "first", 1) == 1


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:192.0.2.1:50000", "192.0.2.1"),
        ("ipv6:%5B2001:db8::1:2:3:4%5D:50000", "2001:db8::/64"),
        ("ipv6:[2001:db8:0:0:ffff::1]:1", "2001:db8::/64"),
        ("ipv6:%5B::ffff:192.0.2.1%5D:50000", "192.0.2.1"),
        ("ipv6:%5Bfe80::1%25eth0%5D:50000", "fe80::/64"),
        ("unix:", "unix:"),
    ],
)
def test_an_address_is_what_one_caller_has(peer: str, address: str) -> None:
    """Of IPv6 the whole network, and never the port."""
    assert address_in(peer) == address
