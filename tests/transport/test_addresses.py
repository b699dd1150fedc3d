"""Addresses as peers write them, and what a resolver must never be given."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkt_p2p.errors import PeerUnavailableError
from qkt_p2p.limits import MAX_ADDRESS_CHARACTERS
from qkt_p2p.transport.addresses import split_address

LONGEST = ".".join(["a" * 63] * 3 + ["b" * 61])


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("192.0.2.7:7448", ("192.0.2.7", 7448)),
        ("node-1.lab.example:1", ("node-1.lab.example", 1)),
        ("localhost:65535", ("localhost", 65535)),
        ("under_score.example.:80", ("under_score.example.", 80)),
        ("[2001:db8::7]:7448", ("2001:db8::7", 7448)),
        ("[::1]:1", ("::1", 1)),
        (f"{LONGEST}:65535", (LONGEST, 65535)),
    ],
)
def test_addresses_are_split(address: str, parts: tuple[str, int]) -> None:
    """Names, IPv4 and bracketed IPv6 are understood."""
    assert split_address(address) == parts
    assert len(address) <= MAX_ADDRESS_CHARACTERS


@pytest.mark.parametrize(
    "address",
    [
        "",
        ":",
        "host",
        "host:",
        ":80",
        "host:0",
        "host:65536",
        "host:-1",
        "host:\N{ARABIC-INDIC DIGIT ONE}",
        "host:99999999999999999999",
        "::1:80",
        "[::1:80",
        "[host]:80",
        "[fe80::1%eth0]:80",
        "unix:/run/docker.sock:1",
        "dns:///host:1",
        "ho st:80",
        "host/path:80",
        "user@host:80",
        "%2f:80",
        "-host:80",
        "host..example:80",
        f"{'a' * 64}:80",
        f"{LONGEST}b:80",
        f"{LONGEST}.c:80",
    ],
)
def test_anything_else_is_no_address(address: str) -> None:
    """Schemes, paths, zones, bad ports and impossible names are refused before any resolver sees them."""
    with pytest.raises(PeerUnavailableError, match="is not host:port"):
        split_address(address)


@given(st.text(max_size=80))
def test_made_up_addresses_are_split_or_refused(address: str) -> None:
    """Whatever a peer names as its address raises nothing else."""
    try:
        host, port = split_address(address)
    except PeerUnavailableError:
        return
    assert host
    assert 0 < port < 65536
