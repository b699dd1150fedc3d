"""Records on the local network, which everybody can forge: what is read of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zeroconf.asyncio import AsyncServiceInfo

from qkt_p2p.discovery.mdns import SERVICE_TYPE, federation_tag, hint_in, service_named
from qkt_p2p.limits import MAX_ADDRESSES

PEER = "a" * 52
NAME = f"{PEER}.{SERVICE_TYPE}"


def text_record(**entries: str) -> bytes:
    lines = [f"{key}={value}".encode() for key, value in entries.items()]
    return b"".join(bytes([len(line)]) + line for line in lines)


def record(text: bytes, *, port: int = 7447, hosts: int = 1) -> AsyncServiceInfo:
    addresses = [bytes([192, 0, 2, number]) for number in range(hosts)]
    return AsyncServiceInfo(SERVICE_TYPE, NAME, port, properties=text, addresses=addresses)


MEMBER = text_record(peer=PEER, fed=federation_tag("fed"))


def test_a_record_says_where_a_member_might_be_dialed() -> None:
    """Peer and addresses, no more of them than anybody may have."""
    assert hint_in(record(MEMBER), "fed") == (PEER, ("192.0.2.0:7447",))
    found = hint_in(record(MEMBER, hosts=MAX_ADDRESSES + 5), "fed")
    assert found is not None
    assert len(found[1]) == MAX_ADDRESSES


@pytest.mark.parametrize(
    ("text", "port"),
    [
        (MEMBER, 0),
        (b"", 7447),
        (text_record(peer="a" * 51, fed=federation_tag("fed")), 7447),
        (text_record(peer=PEER), 7447),
        (text_record(peer=PEER, fed=federation_tag("other")), 7447),
    ],
)
def test_other_records_say_nothing(text: bytes, port: int) -> None:
    """Of another federation, of nobody, or without a port."""
    assert hint_in(record(text, port=port), "fed") is None


@given(st.binary(max_size=200))
def test_any_text_record_says_something_or_nothing(text: bytes) -> None:
    """Whatever bytes stand in it."""
    found = hint_in(record(text), "fed")
    assert found is None or len(found[0]) == len(PEER)


@given(st.text(max_size=80) | st.text(max_size=80).map(lambda text: text + SERVICE_TYPE))
def test_a_pointer_may_lead_to_any_name(name: str) -> None:
    """One that is no service's name is left alone; before, it ended a task with an exception."""
    service = service_named(name)
    assert service is None or service.name == name


def test_a_pointer_to_a_node_is_followed() -> None:
    """And one to something else is not."""
    assert service_named(NAME) is not None
    assert service_named("printer.example.") is None
