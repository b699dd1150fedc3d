"""The way to a node does what it is told to what passes on it, and nothing else."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest

from qkt_node.cluster.chaos.dribble import Dribble
from qkt_node.cluster.chaos.proxy import Proxy, impose

ANSWER = random.Random(1).randbytes(100_000)


@dataclass
class Node:
    """Answers whoever says something, and keeps what it heard."""

    heard: bytes = b""
    connected: int = 0
    spoken: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connected += 1
        with suppress(OSError):
            while word := await reader.read(16):
                self.heard += word
                self.spoken.release()
                writer.write(ANSWER)
                await writer.drain()
        writer.transport.abort()
        self.closed.set()


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
async def proxy(node: Node) -> AsyncIterator[Proxy]:
    server = await asyncio.start_server(node.answer, "127.0.0.1", 0)
    found = Proxy(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", random.Random(1))
    await found.start()
    yield found
    await found.stop()
    await found.stop()
    server.close()
    await server.wait_closed()
    assert found.connections == 0


@asynccontextmanager
async def caller(proxy: Proxy) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect by the way and say one word."""
    host, _, port = proxy.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"hello")
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def all_of(reader: asyncio.StreamReader, size: int = len(ANSWER)) -> bytes:
    """Return what comes until `size` bytes did or the connection broke."""
    found = b""
    with suppress(OSError):
        while len(found) < size and (block := await reader.read(size)):
            found += block
    return found


SHAPES: dict[str, dict[str, float]] = {
    "delay": {"seconds": 0.001, "jitter": 0.001},
    "rate": {"bytes_per_second": 2_000_000},
    "loss": {"probability": 0.0},
}


@pytest.mark.parametrize("kind", ["", *SHAPES])
async def test_what_is_slow_arrives_whole(proxy: Proxy, node: Node, kind: str) -> None:
    """Both directions, to the last byte; and the way ends where one of its ends does."""
    if kind:
        impose(proxy, kind, SHAPES[kind])
    async with caller(proxy) as (reader, _):
        assert await all_of(reader) == ANSWER
    await node.closed.wait()
    assert node.heard == b"hello"


@pytest.mark.parametrize("at", [0, 1, 16 * 1024, 99_999])
async def test_a_cut_is_where_it_should_be(proxy: Proxy, at: int) -> None:
    """So many bytes arrive, then the connection breaks; the next one is whole."""
    impose(proxy, "cut", {"bytes": at})
    async with caller(proxy) as (reader, _):
        # A reset may overtake what was sent before it.
        assert ANSWER[:at].startswith(await all_of(reader))
    async with caller(proxy) as (reader, _):
        assert await all_of(reader) == ANSWER


@pytest.mark.parametrize("at", [0, 1, 16 * 1024, 99_999])
async def test_one_byte_is_spoilt_once(proxy: Proxy, at: int) -> None:
    """All bytes arrive, and this one is another."""
    impose(proxy, "spoil", {"bytes": at})
    async with caller(proxy) as (reader, _):
        found = await all_of(reader)
    assert [here for here, (sent, came) in enumerate(zip(ANSWER, found, strict=True)) if sent != came] == [at]
    async with caller(proxy) as (reader, _):
        assert await all_of(reader) == ANSWER


async def test_loss_breaks_connections(proxy: Proxy) -> None:
    """With certainty nothing arrives; afterwards all does."""
    end = impose(proxy, "loss", {"probability": 1.0})
    async with caller(proxy) as (reader, _):
        assert await all_of(reader) == b""
    end()
    async with caller(proxy) as (reader, _):
        assert await all_of(reader) == ANSWER


async def test_a_partition_keeps_what_was_sent(proxy: Proxy, node: Node) -> None:
    """Nobody hears anything, nothing breaks, and when it ends all arrives."""
    async with caller(proxy) as (reader, writer):
        assert await all_of(reader) == ANSWER
        end = impose(proxy, "partition", {})
        writer.write(b" again")
        async with caller(proxy) as (other, _):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(other.read(1), 0.05)
            assert (node.heard, node.connected) == (b"hello", 1)
            end()
            assert await all_of(reader) == ANSWER
            assert await all_of(other) == ANSWER


async def test_half_open(proxy: Proxy, node: Node) -> None:
    """A connection is accepted and never answered; what was swallowed is lost, so it breaks in the end."""
    end = impose(proxy, "half-open", {})
    async with caller(proxy) as (reader, _):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.05)
        end()
        assert await all_of(reader) == b""
    assert node.heard == b""


async def test_a_node_that_is_gone(proxy: Proxy, node: Node) -> None:
    """Connections break, new ones do at once, and where nobody listens any more, too."""
    async with caller(proxy) as (reader, _):
        assert await all_of(reader) == ANSWER
        proxy.conditions.gone = True
        proxy.reset()
        assert await all_of(reader) == b""
    async with caller(proxy) as (reader, _):
        assert await all_of(reader) == b""
    proxy.conditions.gone = False
    proxy.target = "127.0.0.1:1"
    async with caller(proxy) as (reader, _):
        assert await all_of(reader) == b""
    assert node.connected == 1


async def test_strangers_that_dribble(proxy: Proxy, node: Node) -> None:
    """They hold as many connections as told, and let go of them all."""
    crowd = Dribble(proxy.address, 5)
    crowd.start()
    for _ in range(5):
        await node.spoken.acquire()
    assert node.heard[0] == 0x16
    assert proxy.connections == 5
    await crowd.stop()
    await crowd.stop()
