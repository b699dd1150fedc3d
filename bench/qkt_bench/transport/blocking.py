"""The same bytes by a blocking socket over mutual TLS 1.3, one thread at each end."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from qkt_bench.transport.ends import End
from qkt_bench.transport.load import ASKER, TEACHER
from qkt_p2p.identity.trust import IdentityFiles

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from qkt_bench.transport.ends import Arrived
    from qkt_bench.transport.load import Load

_BEAT: Final = b"beat"
_GIVE: Final = b"give"


@asynccontextmanager
async def teacher(load: Load, _port: int) -> AsyncGenerator[End]:
    """Serve one connection in a thread."""
    context = _context(load, TEACHER, ssl.PROTOCOL_TLS_SERVER)
    chunks = list(load.data())
    with socket.create_server((load.host, 0)) as listening:
        serving = threading.Thread(target=_serve, args=(listening, context, chunks), daemon=True)
        serving.start()
        yield End(listening.getsockname()[1])


@asynccontextmanager
async def asker(load: Load, port: int) -> AsyncGenerator[End]:
    """Connect; nothing else runs in this process, so it may block."""
    context = _context(load, ASKER, ssl.PROTOCOL_TLS_CLIENT)
    name = load.standing(TEACHER).identity.dns_name
    with socket.create_connection((load.host, port)) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(plain, server_hostname=name) as line:
            yield End(asking=_Asking(line, load))


class _Asking:
    def __init__(self, line: ssl.SSLSocket, load: Load) -> None:
        self._line = line
        self._chunks = load.chunks
        self._buffer = memoryview(bytearray(load.chunk_kib * 1024))

    async def round_trip(self) -> None:
        """Echo some bytes."""
        self._line.sendall(_BEAT)
        _fill(self._line, self._buffer[: len(_BEAT)])

    async def fetch(self, arrived: Arrived) -> None:
        """Read every chunk into the same buffer."""
        self._line.sendall(_GIVE)
        for _ in range(self._chunks):
            _fill(self._line, self._buffer)
            arrived()


def _serve(listening: socket.socket, context: ssl.SSLContext, chunks: list[bytes]) -> None:
    plain, _ = listening.accept()
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with suppress(OSError), context.wrap_socket(plain, server_side=True) as line:
        while request := line.recv(len(_BEAT)):
            if request == _BEAT:
                line.sendall(_BEAT)
            else:
                for chunk in chunks:
                    line.sendall(chunk)


def _fill(line: ssl.SSLSocket, buffer: memoryview) -> None:
    done = 0
    while done < len(buffer):
        got = line.recv_into(buffer[done:])
        if not got:
            raise ConnectionError("the other end closed the connection")
        done += got


def _context(load: Load, side: str, protocol: int) -> ssl.SSLContext:
    files = IdentityFiles(load.folder / side)
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(files.certificate, files.key)
    context.load_verify_locations(files.roots)
    return context
