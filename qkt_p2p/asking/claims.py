"""Who brings which chunk, where several teachers of a query offer the same one: it travels once."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection


class Claimant(Protocol):
    """A transfer that brings chunks; it counts as slow from `due` on, by the event loop's clock."""

    due: float

    def give_way(self) -> None:
        """End the stream under way, if there is one: others wait for its chunks, and it is slow."""
        ...


class Claims:
    """The chunks that the streams of one query are bringing, by digest.

    Nobody waits for ever: who waits brings nothing meanwhile, who brings something gives way when it is slow,
    and gives all up when its stream ends.
    """

    def __init__(self) -> None:
        self._by: dict[bytes, Claimant] = {}
        self._changed = asyncio.Event()

    def claim(self, claimant: Claimant, digests: Collection[bytes]) -> frozenset[bytes]:
        """Claim what nobody else brings; return what others bring."""
        for digest in digests:
            self._by.setdefault(digest, claimant)
        return frozenset(digest for digest in digests if self._by[digest] is not claimant)

    def arrived(self, digest: bytes) -> None:
        """Note that a chunk need not be brought any more."""
        if self._by.pop(digest, None) is not None:
            self._tell()

    def release(self, claimant: Claimant) -> None:
        """Leave to others what did not arrive: the stream has ended."""
        self._by = {digest: owner for digest, owner in self._by.items() if owner is not claimant}
        self._tell()

    async def settled(self, digests: Collection[bytes]) -> None:
        """Return when nobody brings any of `digests` any more: they are here, or free to be claimed."""
        while owners := {id(self._by[each]): self._by[each] for each in digests if each in self._by}.values():
            due, changed = min(owner.due for owner in owners), self._changed
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await changed.wait()
                continue
            for owner in owners:
                if owner.due <= asyncio.get_running_loop().time():
                    owner.give_way()
                    self.release(owner)

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
