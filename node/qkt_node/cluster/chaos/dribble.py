"""Strangers that hold connections open and say a byte at a time: the slow loris."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

_HELLO: Final = bytes.fromhex("1603010200010001fc0303")
"""How a TLS handshake begins; 512 bytes are announced, and never come."""

_PAUSE_SECONDS: Final = 0.2


class Dribble:
    """`count` such connections to an address; `start`, and an idempotent `stop`."""

    def __init__(self, address: str, count: int) -> None:
        self._address = address
        self._count = count
        self._strangers: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to connect."""
        self._strangers = [asyncio.create_task(self._connect()) for _ in range(self._count)]

    async def stop(self) -> None:
        """Let go of all connections."""
        for stranger in self._strangers:
            stranger.cancel()
        await asyncio.gather(*self._strangers, return_exceptions=True)
        self._strangers.clear()

    async def _connect(self) -> None:
        host, _, port = self._address.rpartition(":")
        # Whoever is cut off has lost: the node is right to do so.
        with suppress(OSError):
            _, writer = await asyncio.open_connection(host, int(port))
            try:
                for byte in _HELLO:
                    writer.write(bytes([byte]))
                    await writer.drain()
                    await asyncio.sleep(_PAUSE_SECONDS)
                await asyncio.Event().wait()
            finally:
                writer.transport.abort()
