"""Files that hold chunks one behind the other: one file for each owner, which is a query or a bank.

The journal's rows say where each chunk is and which digest it has. What a query receives is not synced to the
disk: a chunk that a power cut took, or that the disk changed, is found by its digest when it is read. One
file for all chunks of an owner, because a file system takes its time to make and remove thousands of them
(docs/transport.md).
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from qkt_p2p.errors import QktError
from qkt_p2p.files import sync_folder, unwritable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

_OWNER: Final = re.compile(r"(query|bank)-[0-9a-f]{16}")
"""Names of files: nothing that a peer says becomes part of a path."""


class ChunkFiles:
    """Files of mode 0600 in `folder`, of mode 0700; every method may be called from any thread.

    Two processes may use a folder at the same time. Raises QktError where the disk fails.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)

    def make(self, owner: str) -> None:
        """Make an owner's file; one that is there stays."""
        path = self._path(owner)
        with _writing(path):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def append(self, owner: str, chunks: Sequence[bytes]) -> list[int]:
        """Put chunks behind the others and return where each begins; one thread at a time for each owner.

        Raises QktError, too, where the owner has no file any more: what was dropped stays so.
        """
        path = self._path(owner)
        with _writing(path):
            descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                at = os.fstat(descriptor).st_size
                _write(descriptor, chunks, at)
            finally:
                os.close(descriptor)
        return list(accumulate(map(len, chunks), initial=at))[:-1]

    def sync(self, owner: str) -> None:
        """Return when an owner's chunks are on the disk, as far as it tells the truth."""
        path = self._path(owner)
        with _writing(path), path.open("rb") as file:
            os.fsync(file.fileno())
        sync_folder(self._folder)

    def read(self, owner: str, places: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the chunks that begin somewhere and have a size; less of one that the file does not hold."""
        path = self._path(owner)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                return [os.pread(descriptor, size, start) for start, size in places]
            finally:
                os.close(descriptor)
        except FileNotFoundError:
            return [b"" for _ in places]
        except OSError as error:
            raise QktError(f"cannot read {path}: {error.strerror}", fix="check the disk") from error

    def drop(self, owner: str) -> None:
        """Remove an owner's file, if it has one; nobody can append to it any more."""
        path = self._path(owner)
        with _writing(path):
            path.unlink(missing_ok=True)

    def drop_others(self, owners: Collection[str]) -> None:
        """Remove the files of all but `owners`: what a crash left."""
        with _writing(self._folder):
            for path in self._folder.iterdir():
                if path.name not in owners:
                    path.unlink(missing_ok=True)

    def _path(self, owner: str) -> Path:
        if not _OWNER.fullmatch(owner):
            raise QktError(f"{owner[:80]!r} holds no chunks")
        return self._folder / owner


def _write(descriptor: int, chunks: Sequence[bytes], at: int) -> None:
    """Write all chunks; where that fails, give the space back."""
    end = at
    try:
        for chunk in chunks:
            rest = memoryview(chunk)
            while rest:
                written = os.pwrite(descriptor, rest, end)
                rest, end = rest[written:], end + written
    except OSError:
        os.ftruncate(descriptor, at)
        raise


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unwritable(path, error) from error
