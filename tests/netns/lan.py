"""A local network inside this machine: hosts are network namespaces, cables veth pairs, the switch a bridge.

The switch has a namespace of its own, so nothing that the machine's own network has can clash with it,
and deleting the namespaces deletes everything.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

_NAMES: Final = re.compile(r"^qkt-(\d+)-\S+", re.MULTILINE)
"""Namespaces of a test run; the number is the run's process id."""

_numbers = itertools.count()


class LanError(RuntimeError):
    """The machine does not let us make, or change, a network."""


class Lan:
    """A switch with hosts; leaving the block kills whatever still runs in them and removes all."""

    def __init__(self) -> None:
        self._run = f"qkt-{os.getpid()}-{next(_numbers)}"
        self._switch = f"{self._run}-switch"
        self._namespaces: list[str] = []

    def __enter__(self) -> Self:
        try:
            self._add_namespace(self._switch)
            _ip("-n", self._switch, "link", "add", "switch", "type", "bridge")
            _ip("-n", self._switch, "link", "set", "switch", "up")
        except LanError:
            self.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def add_host(self, name: str, address: str = "") -> None:
        """Make a host, plugged in at `address`, "10.0.0.1/24" or "fd00::1/64", or without any network."""
        self._add_namespace(self._namespace(name))
        _ip("-n", self._namespace(name), "link", "set", "lo", "up")
        if address:
            self.connect(name, address)

    def connect(self, name: str, address: str) -> None:
        """Plug in a host that has no network yet."""
        namespace = self._namespace(name)
        _ip(
            "link",
            "add",
            "eth0",
            "netns",
            namespace,
            "type",
            "veth",
            "peer",
            "name",
            name,
            "netns",
            self._switch,
        )
        self._give(name, address)
        _ip("-n", namespace, "link", "set", "eth0", "up")
        _ip("-n", self._switch, "link", "set", name, "master", "switch", "up")

    def add_bridge(self, name: str, address: str) -> None:
        """Give a host a network within itself, as those of containers are."""
        namespace = self._namespace(name)
        _ip("-n", namespace, "link", "add", "bridge0", "type", "bridge")
        _ip("-n", namespace, "address", "add", address, "dev", "bridge0")
        _ip("-n", namespace, "link", "set", "bridge0", "up")

    def renumber(self, name: str, address: str) -> None:
        """Give a host that is plugged in another address in place of its own."""
        _ip("-n", self._namespace(name), "address", "flush", "dev", "eth0")
        self._give(name, address)

    def command(self, name: str, *words: str) -> list[str]:
        """Return the command line that runs `words` on a host; the process keeps its id."""
        return ["ip", "netns", "exec", self._namespace(name), *words]

    def unplug(self, name: str) -> None:
        """Pull a host's cable: it loses its carrier."""
        _ip("-n", self._switch, "link", "set", name, "down")

    def plug_in(self, name: str) -> None:
        """Put the cable back."""
        _ip("-n", self._switch, "link", "set", name, "up")

    def block(self, name: str) -> None:
        """Drop whatever a host sends or is sent; nothing tells it so."""
        _ip("-n", self._switch, "link", "set", name, "nomaster")

    def unblock(self, name: str) -> None:
        """Let the host's packets through again."""
        _ip("-n", self._switch, "link", "set", name, "master", "switch")

    def close(self) -> None:
        """Kill what runs on the hosts and remove them; idempotent."""
        namespaces, self._namespaces = self._namespaces, []
        for namespace in namespaces:
            _remove(namespace)

    def _give(self, name: str, address: str) -> None:
        # An address that is still being checked for duplicates cannot be bound.
        flags = ["nodad"] if ":" in address else []
        _ip("-n", self._namespace(name), "address", "add", address, "dev", "eth0", *flags)

    def _namespace(self, name: str) -> str:
        return f"{self._run}-{name}"

    def _add_namespace(self, namespace: str) -> None:
        _ip("netns", "add", namespace)
        self._namespaces.append(namespace)


def why_not() -> str:
    """Return why this machine lets us make no networks, with the fix, or "" where it does."""
    if shutil.which("ip") is None:
        return "they need the command ip: apt-get install iproute2"
    if os.geteuid() != 0:
        return "they need root, to make network namespaces: sudo make test"
    try:
        with Lan() as lan:
            lan.add_host("probe", "10.0.0.1/24")
    except LanError as error:
        return f"this machine allows no network namespaces ({error}): run on a host or a privileged container"
    return ""


def remove_leftovers() -> None:
    """Remove the networks of test runs that were killed."""
    for found in _NAMES.finditer(_ip("netns", "list")):
        if not Path("/proc", found[1]).exists():
            _remove(found[0])


def _remove(namespace: str) -> None:
    for process in _ip("netns", "pids", namespace).split():
        with suppress(ProcessLookupError):
            os.kill(int(process), signal.SIGKILL)
    _ip("netns", "delete", namespace)


def _ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LanError(f"ip {' '.join(words)}: {done.stderr.strip() or done.returncode}")
    return done.stdout
