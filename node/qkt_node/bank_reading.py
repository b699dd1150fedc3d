"""Reads the banks that the worker made, and notices where the disk changed them before an asker does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from qkt_p2p.errors import PeerBusyError, QktError
from qkt_p2p.limits import BUSY_CALLS_SECONDS, CHUNKS_UNDER_WAY
from qkt_p2p.types import Chunk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qkt_p2p.store.journal import Journal
    from qkt_p2p.types import TeachOffer

log = structlog.get_logger(__name__)

MOST_REMEMBERED: Final = 64
"""Banks of which it is known what was found whole; of others all is checked again."""


class BankReader:
    """The banks of one daemon.

    A chunk is compared with its digest the first time that it is sent, and again after `doubt`: doing so
    every time would cost each stream some 0.4 s of a processor for a GB. A damaged bank is dropped and
    logged, and the asker is told to come again, when it is made anew.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._sound: dict[str, set[int]] = {}

    def offer(self, key: str) -> TeachOffer:
        """Return what a bank holds; raises PeerBusyError where it is gone."""
        offer = self._journal.load_bank(key)
        if offer is None:
            raise self._gone(key)
        return offer

    def read(self, key: str, places: Sequence[int], *, last: bool) -> list[Chunk]:
        """Return chunks of a bank; raises PeerBusyError where it is gone or damaged.

        The `last` ones of a stream are checked each time: it has ended before its asker can break it off.
        """
        sound = self._sound.setdefault(key, set())
        if len(self._sound) > MOST_REMEMBERED:
            self._sound.pop(next(iter(self._sound)), None)
        try:
            chunks = self._journal.load_bank_chunks(
                key, places, checked=places if last else set(places) - sound
            )
        except QktError as error:
            log.error("bank_damaged", error=error.message, fix=error.fix)
            raise self._gone(key) from error
        if chunks is None:
            raise self._gone(key)
        sound.update(places)
        return [Chunk(at, data) for at, data in zip(places, chunks, strict=True)]

    def doubt(self, key: str) -> None:
        """Check a bank again when it is sent next: whoever broke off its stream may have found it damaged."""
        self._sound.pop(key, None)

    def _gone(self, key: str) -> PeerBusyError:
        self.doubt(key)
        return PeerBusyError("the bank was dropped meanwhile, ask again", retry_after=BUSY_CALLS_SECONDS)


def in_turns(places: Sequence[int]) -> list[Sequence[int]]:
    """Cut the places of a stream's chunks into what is read at once."""
    return [places[at : at + CHUNKS_UNDER_WAY] for at in range(0, len(places), CHUNKS_UNDER_WAY)]
