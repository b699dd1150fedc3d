"""The way to one node, over TCP: it delays, drops, cuts and spoils what passes, as it is told."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping

_BLOCK: Final = 16 * 1024
"""Bytes that pass at once: a TLS record."""

_LONGEST_PAUSE: Final = 0.05
"""Seconds; a capped rate is kept in short pauses, so that its end is felt at once."""


@dataclass
class Conditions:
    """What the way is like at this moment. Seconds and bytes; None: not at all.

    `cut` and `spoil` count bytes to the caller from now on, and happen once.
    """

    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    bytes_per_second: float | None = None
    silent: bool = False
    gone: bool = False
    cut: int | None = None
    spoil: int | None = None


class Proxy:
    """Listens on a port of loopback and forwards to `target`, under `conditions` that may change any time.

    `start` and an idempotent `stop`; `generator` decides what is left to chance.
    """

    def __init__(self, target: str, generator: random.Random) -> None:
        self.target = target
        self.conditions = Conditions()
        self.address = ""
        self.forwarded = 0
        self.generator = generator
        self._passing = asyncio.Event()
        self._passing.set()
        self._connections: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}
        self._server: asyncio.Server | None = None

    @property
    def connections(self) -> int:
        """How many connections pass here now."""
        return len(self._connections)

    async def start(self, address: str = "127.0.0.1:0") -> str:
        """Listen, and return the address."""
        host, _, port = address.rpartition(":")
        self._server = await asyncio.start_server(self._accept, host, int(port), limit=_BLOCK)
        self.address = f"{host}:{self._server.sockets[0].getsockname()[1]}"
        return self.address

    async def stop(self) -> None:
        """Break every connection and listen no more."""
        if self._server is not None:
            self._server.close()
        self.reset()
        await self.quiet()

    async def quiet(self) -> None:
        """Return when no connection passes any more."""
        while self._connections:
            await asyncio.wait(self._connections)

    def hold(self) -> None:
        """Let nothing pass, and keep it."""
        self._passing.clear()

    def release(self) -> None:
        """Let all pass that was held."""
        self._passing.set()

    def reset(self) -> None:
        """Break every connection, as a host does that knows nothing of them."""
        for task, writers in self._connections.items():
            for writer in writers:
                _reset(writer)
            task.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = [writer]
        try:
            with suppress(OSError, asyncio.CancelledError):
                await self._serve(reader, writer)
        finally:
            for each in self._connections.pop(task):
                _reset(each)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._passing.wait()
        if self.conditions.gone:
            return
        host, _, port = self.target.rpartition(":")
        beyond, out = await asyncio.open_connection(host, int(port), limit=_BLOCK)
        task = asyncio.current_task()
        assert task is not None
        self._connections[task].append(out)
        pumps = (
            asyncio.create_task(self._pump(reader, out, lambda block: block)),
            asyncio.create_task(self._pump(beyond, writer, self._to_caller)),
        )
        try:
            ended, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in ended:
                pump.result()
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.wait(pumps)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, change: Callable[[bytes], bytes]
    ) -> None:
        """Forward until one side ends or the way breaks."""
        while block := await reader.read(_BLOCK):
            await self._shape(len(block))
            now = self.conditions
            if now.loss and self.generator.random() < now.loss:
                return
            if now.silent:
                continue
            cut = now.cut
            writer.write(change(block))
            await writer.drain()
            if cut is not None and now.cut is None:
                return

    async def _shape(self, size: int) -> None:
        """Wait as long as `size` bytes take under the conditions."""
        now = self.conditions
        seconds = now.delay + now.jitter * self.generator.random() if now.delay or now.jitter else 0.0
        await asyncio.sleep(seconds)
        left = float(size)
        while left > 0 and (rate := self.conditions.bytes_per_second) is not None:
            seconds = min(left / rate, _LONGEST_PAUSE)
            await asyncio.sleep(seconds)
            left -= rate * seconds
        await self._passing.wait()

    def _to_caller(self, block: bytes) -> bytes:
        now = self.conditions
        self.forwarded += len(block)
        if now.spoil is not None:
            now.spoil -= len(block)
            if now.spoil < 0:
                at, now.spoil = now.spoil + len(block), None
                block = block[:at] + bytes([block[at] ^ 0xFF]) + block[at + 1 :]
        if now.cut is not None:
            now.cut -= len(block)
            if now.cut < 0:
                block, now.cut = block[: now.cut], None
        return block


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close at once: with a reset, not with the goodbye of TCP."""
    found = writer.get_extra_info("socket")
    with suppress(OSError):
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


_CHANGES: Final[Mapping[str, Callable[[Mapping[str, float]], dict[str, Any]]]] = {
    "half-open": lambda _: {"silent": True},
    "delay": lambda given: {"delay": given["seconds"], "jitter": given["jitter"]},
    "loss": lambda given: {"loss": given["probability"]},
    "rate": lambda given: {"bytes_per_second": given["bytes_per_second"]},
    "cut": lambda given: {"cut": int(given["bytes"])},
    "spoil": lambda given: {"spoil": int(given["bytes"])},
}

NETWORK: Final = ("partition", *_CHANGES)
"""Kinds of faults that lie on the way."""


def impose(proxy: Proxy, kind: str, parameters: Mapping[str, float]) -> Callable[[], None]:
    """Make the way what a fault of this kind, one of NETWORK, makes of it; the answer ends that again."""
    if kind == "partition":
        proxy.hold()
        return proxy.release
    changes = _CHANGES[kind](parameters)
    for name, value in changes.items():
        setattr(proxy.conditions, name, value)

    def end() -> None:
        usual = Conditions()
        for name in changes:
            setattr(proxy.conditions, name, getattr(usual, name))
        if kind == "half-open":
            # What was swallowed is missing, and no connection can go on without it.
            proxy.reset()

    return end
