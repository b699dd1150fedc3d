"""The bench of slow links: its cable is as slow as told, and without its rights it says what is missing."""

from __future__ import annotations

import os

import pytest

from slow_links import measure
from slow_links.link import LEAST_QUEUE, Lane, Speed


@pytest.fixture
def arrived(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What a device was given, instead of the device."""
    packets: list[bytes] = []
    monkeypatch.setattr(os, "write", lambda _device, packet: packets.append(packet))
    return packets


def test_packets_travel_one_after_the_other(arrived: list[bytes]) -> None:
    """Each takes its bits by the rate, and all of them the delay."""
    lane = Lane(Speed(bits=8000.0, delay=0.5))
    for packet in (b"a" * 1000, b"b" * 500):
        lane.put(packet, 10.0)
    lane.arrive(0, 11.4)
    assert arrived == []
    lane.arrive(0, 11.6)
    assert arrived == [b"a" * 1000]
    lane.arrive(0, 12.1)
    assert arrived == [b"a" * 1000, b"b" * 500]


def test_a_full_queue_drops(arrived: list[bytes]) -> None:
    """What finds no room is lost, and what comes when there is room again is not."""
    lane = Lane(Speed(bits=8000.0, delay=0.0))
    sent = 2 * LEAST_QUEUE // 1000
    for _ in range(sent):
        lane.put(b"a" * 1000, 0.0)
    lane.arrive(0, 1000.0)
    assert len(arrived) == LEAST_QUEUE // 1000 + 1
    lane.put(b"b" * 1000, 1000.0)
    lane.arrive(0, 1002.0)
    assert arrived[-1] == b"b" * 1000


def test_without_root_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """And measures nothing."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr("shutil.which", lambda _name: "/sbin/ip")
    monkeypatch.setattr("sys.argv", ["measure.py", "--sizes", "1"])
    assert measure.main() == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "need root: run this with sudo" in captured.err
