"""A slow link between two hosts inside this machine, for which it needs root: hosts are network namespaces.

Each host has a tun device, and a thread of this process is the cable: every IP packet waits its turn in a
queue, takes as long as its bytes take at the link's rate, and arrives after the delay. The kernel's own TCP
does the rest. Nothing needs a queueing discipline that delays, which a kernel need not have.
"""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import struct
import subprocess
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

HOSTS: Final = {"asker": "10.98.0.1", "teacher": "10.98.0.2"}
"""The two hosts, with their addresses."""

QUEUE_SECONDS: Final = 0.2
LEAST_QUEUE: Final = 64 * 1024
"""A packet is dropped that finds more bytes before it, or more than the link carries in QUEUE_SECONDS."""

_TUN: Final = Path("/dev/net/tun")
_SET_DEVICE: Final = 0x400454CA
"""TUNSETIFF, which makes a device: linux/if_tun.h, as are the next."""
_PACKETS: Final = 0x0001 | 0x1000
_LARGEST_PACKET: Final = 2048


class LinkError(RuntimeError):
    """This machine does not let us make a link."""


@dataclass(frozen=True, slots=True)
class Speed:
    """Bits a second and the seconds that every packet travels, the same both ways."""

    bits: float
    delay: float

    @property
    def queue_bytes(self) -> float:
        """The bytes that may wait for their turn."""
        return max(LEAST_QUEUE, self.bits / 8 * QUEUE_SECONDS)


class Link:
    """Both hosts and the cable, for as long as the block runs; raises LinkError where they cannot be had."""

    def __init__(self, speed: Speed) -> None:
        self._speed = speed
        self._name = f"qkt-link-{os.getpid()}"
        self._devices: list[int] = []
        self._cable: _Cable | None = None

    def __enter__(self) -> Self:
        require_rights()
        try:
            for number, (host, address) in enumerate(HOSTS.items()):
                self._add_host(host, address, f"qkt{os.getpid() % 10**8}-{number}")
        except (LinkError, OSError) as error:
            self.__exit__()
            raise LinkError(f"this machine gives no link: {error}") from error
        self._cable = _Cable(self._speed, (self._devices[0], self._devices[1]))
        self._cable.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._cable is not None:
            self._cable.stop()
        for device in self._devices:
            os.close(device)
        for host in HOSTS:
            subprocess.run(["ip", "netns", "delete", self._namespace(host)], capture_output=True, check=False)

    def cut(self, seconds: float) -> None:
        """Lose all packets for a while; nothing tells the hosts so."""
        assert self._cable is not None
        self._cable.dead_until = time.monotonic() + seconds

    def on(self, host: str) -> Sequence[str]:
        """Return the words that run a command on a host."""
        return ("ip", "netns", "exec", self._namespace(host))

    def _add_host(self, host: str, address: str, device: str) -> None:
        namespace = self._namespace(host)
        _ip("netns", "add", namespace)
        opened = os.open(_TUN, os.O_RDWR)
        self._devices.append(opened)
        fcntl.ioctl(opened, _SET_DEVICE, struct.pack("16sH22x", device.encode(), _PACKETS))
        _ip("link", "set", device, "netns", namespace)
        _ip("-n", namespace, "address", "add", f"{address}/24", "dev", device)
        _ip("-n", namespace, "link", "set", "lo", "up")
        _ip("-n", namespace, "link", "set", device, "up")

    def _namespace(self, host: str) -> str:
        return f"{self._name}-{host}"


@dataclass(slots=True)
class Lane:
    """One direction: packets under way with the time when each arrives."""

    speed: Speed
    under_way: deque[tuple[float, bytes]] = field(default_factory=deque)
    free_at: float = 0.0

    def put(self, packet: bytes, now: float) -> None:
        """Let a packet travel, or drop it where the queue is full."""
        waiting = max(0.0, self.free_at - now) * self.speed.bits / 8
        if waiting <= self.speed.queue_bytes:
            self.free_at = max(now, self.free_at) + len(packet) * 8 / self.speed.bits
            self.under_way.append((self.free_at + self.speed.delay, packet))

    def arrive(self, device: int, now: float) -> None:
        """Hand over what is there by now."""
        while self.under_way and self.under_way[0][0] <= now:
            os.write(device, self.under_way.popleft()[1])


class _Cable(threading.Thread):
    """Carries packets between two devices until it is stopped."""

    def __init__(self, speed: Speed, devices: tuple[int, int]) -> None:
        super().__init__(daemon=True)
        self.dead_until = 0.0
        first, second = devices
        self._lanes = {first: (Lane(speed), second), second: (Lane(speed), first)}
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End within a moment."""
        self._stopping.set()
        self.join()

    def run(self) -> None:
        """Carry."""
        while not self._stopping.is_set():
            readable, _, _ = select.select(list(self._lanes), (), (), self._pause())
            now = time.monotonic()
            for device in readable:
                packet = os.read(device, _LARGEST_PACKET)
                if now >= self.dead_until:
                    self._lanes[device][0].put(packet, now)
            for lane, other in self._lanes.values():
                lane.arrive(other, now)

    def _pause(self) -> float:
        due = [lane.under_way[0][0] for lane, _ in self._lanes.values() if lane.under_way]
        return max(0.0, min([each - time.monotonic() for each in due], default=0.1))


def require_rights() -> None:
    """Raise LinkError, with the remedy, where this process may make no network."""
    if shutil.which("ip") is None:
        raise LinkError("the command ip is missing: apt-get install iproute2")
    if os.geteuid() != 0:
        raise LinkError("network namespaces need root: run this with sudo")
    if not _TUN.exists():
        raise LinkError(f"{_TUN} is missing: run this on a host, or in a container that is given that device")


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LinkError(f"ip {' '.join(words)}: {done.stderr.strip() or done.returncode}")
