"""Opens TLS connections to hosts by name, whose addresses are looked up by threads that do nothing else.

A name server that does not answer keeps a thread for ten seconds and more, and nothing can end that. asyncio
looks names up where it does all blocking work, so a few such names, which any peer may tell, would stop the
work on disks, and hold up the end of the process.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from concurrent.futures import Future
from functools import cache
from ipaddress import ip_address
from queue import SimpleQueue
from typing import Final

Question = tuple[Future[list[str]], str]

_THREADS: Final = 8


async def open_tls(
    host: str, port: int, context: ssl.SSLContext
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a connection to the first of a host's addresses that takes one, after its TLS handshake.

    Nobody is asked to answer for the name. Raises OSError, of which ssl.SSLError is one kind, and does not
    limit the time.
    """
    *others, last = await addresses_of(host)
    for address in others:
        try:
            return await asyncio.open_connection(address, port, ssl=context, server_hostname="")
        except ssl.SSLError:
            raise
        # Nobody listens there, or no way leads there, as where a host without IPv6 is told such an address.
        except OSError:
            continue
    return await asyncio.open_connection(last, port, ssl=context, server_hostname="")


async def addresses_of(host: str) -> list[str]:
    """Return a host's addresses, one at least, best first; raises OSError where it has none."""
    try:
        return [str(ip_address(host))]
    except ValueError:
        answer: Future[list[str]] = Future()
        _questions().put((answer, host))
        return await asyncio.wrap_future(answer)


@cache
def _questions() -> SimpleQueue[Question]:
    """Return what the threads wait for; they are daemons, which the end of the process does not wait for."""
    questions: SimpleQueue[Question] = SimpleQueue()
    for _ in range(_THREADS):
        threading.Thread(target=_answer, args=(questions,), name="names", daemon=True).start()
    return questions


def _answer(questions: SimpleQueue[Question]) -> None:
    while True:
        answer, host = questions.get()
        # Whoever gave up meanwhile is not looked up for.
        if not answer.set_running_or_notify_cancel():
            continue
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            answer.set_exception(error if isinstance(error, OSError) else OSError(f"{host!r} is no name"))
        else:
            answer.set_result(list(dict.fromkeys(str(address[0]) for *_, address in found)))
