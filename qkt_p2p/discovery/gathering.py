"""Brings together whom a query can ask: waits for connections to live peers, and says why one is missing."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic

from qkt_p2p.discovery.links import Link
from qkt_p2p.errors import NotTrustedError, PeerUnavailableError
from qkt_p2p.types import short

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence

    from qkt_p2p.discovery.book import Contact, ContactBook
    from qkt_p2p.discovery.lines import Lines
    from qkt_p2p.discovery.member import Member
    from qkt_p2p.types import PeerId


_LEFT_ALONE: Final = "left alone for a while, because of how it taught before"


@dataclass(frozen=True, slots=True)
class Gathered(Generic[Link]):
    """Whom a query can ask, by name, and why it cannot ask other peers that were known when it began.

    `again` returns an open connection to a peer, another one where the first broke, if there is one within
    some seconds; it raises PeerUnavailableError, and NotTrustedError for one that was revoked meanwhile.
    `failures` are a few reasons why others were not met at all.
    """

    reached: list[tuple[Member, Link]]
    missed: list[tuple[Member, str]]
    again: Callable[[PeerId, float], Awaitable[Link]]
    failures: tuple[str, ...]


@asynccontextmanager
async def gather(
    live: Sequence[Member],
    left_alone: Sequence[Member],
    *,
    book: ContactBook,
    lines: Lines[Link],
    seconds: float,
    refused: Callable[[PeerId], bool],
) -> AsyncIterator[Gathered[Link]]:
    """Connect to every live peer, and keep these connections for the block; see Contacts.gathered."""
    contacts = {member.peer: contact for member in live if (contact := book.find(member.peer))}
    for contact in contacts.values():
        contact.borrowers += 1
        if contact.peer not in lines:
            contact.tried = False
            contact.wake.set()
    # Nobody can dial those: they said hello, and lend their connection next.
    walled = [member.peer for member in live if member.peer not in contacts and not member.dialable]
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not _settled(lines, contacts.values(), walled):
                    lines.changed.clear()
                    await lines.changed.wait()
        reached = lines.reachable()
        asked = {member.peer for member, _ in reached}
        missed = [
            (member, _reason(contacts.get(member.peer), seconds))
            for member in live
            if member.peer not in asked
        ]
        missed += [(member, _LEFT_ALONE) for member in left_alone]
        yield Gathered(
            reached,
            missed,
            again=lambda peer, wait: _line_to(peer, book, lines, wait, refused=refused),
            failures=book.failures(),
        )
    finally:
        for contact in contacts.values():
            contact.borrowers -= 1


async def _line_to(
    peer: PeerId,
    book: ContactBook,
    lines: Lines[Link],
    seconds: float,
    *,
    refused: Callable[[PeerId], bool],
) -> Link:
    if refused(peer):
        raise NotTrustedError(f"peer {short(peer)} is revoked")
    contact = book.find(peer)
    if contact is not None and peer not in lines:
        contact.wake.set()
    try:
        async with asyncio.timeout(seconds):
            return await lines.to(peer)
    except TimeoutError as error:
        raise PeerUnavailableError(_reason(contact, seconds)) from error


def _settled(lines: Lines[Link], contacts: Iterable[Contact], walled: Iterable[PeerId]) -> bool:
    """Tell whether each peer was reached or tried in vain."""
    dialed = all(contact.tried or contact.peer in lines for contact in contacts)
    return dialed and all(peer in lines for peer in walled)


def _reason(contact: Contact | None, seconds: float) -> str:
    if contact is None:
        return f"it cannot be dialed, and did not attach within {seconds:g} s"
    return contact.failure or f"not connected within {seconds:g} s"
