"""A file of JSON objects, one a line, that several processes of one owner change in turn."""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from qkt_p2p.errors import ConfigError, QktError
from qkt_p2p.files import parse_json
from qkt_p2p.identity.files import load_private_file, save_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

T = TypeVar("T")

_MAX_BYTES: Final = 64 * 1024 * 1024
"""A thousand invitations of a thousand uses each."""


@dataclass(frozen=True, slots=True)
class Ledger(Generic[T]):
    """Entries of one kind at `path`, readable by its owner only.

    `encode` and `decode` turn an entry into what JSON holds and back; decode raises KeyError, TypeError,
    ValueError or a QktError for what is none.
    """

    path: Path
    encode: Callable[[T], Mapping[str, object]]
    decode: Callable[[Mapping[str, Any]], T]

    def load(self) -> list[T]:
        """Return the entries, none where there is no file; raises ConfigError for a damaged file."""
        if not self.path.exists():
            return []
        lines = load_private_file(self.path, limit=_MAX_BYTES).splitlines()
        return [self._parse(line, number) for number, line in enumerate(lines, start=1)]

    @contextmanager
    def changing(self) -> Iterator[list[T]]:
        """Give the entries to a block that alone may change them; they are saved when it ends well."""
        descriptor = self._open_lock()
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            entries = self.load()
            before = list(entries)
            yield entries
            if entries != before:
                self._save(entries)
        finally:
            os.close(descriptor)

    def _open_lock(self) -> int:
        path = self.path.with_name(f"{self.path.name}.lock")
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(f"cannot open {path}: {error.strerror}") from error

    def _save(self, entries: Sequence[T]) -> None:
        lines = [json.dumps(self.encode(entry)) for entry in entries]
        save_file(self.path, "".join(f"{line}\n" for line in lines).encode("ascii"), mode=0o600)

    def _parse(self, line: bytes, number: int) -> T:
        try:
            return self.decode(parse_json(line))
        except (KeyError, TypeError, ValueError, QktError) as error:
            raise ConfigError(
                f"{self.path} is damaged in line {number}: {type(error).__name__} {error}",
                fix=f"restore {self.path} from a copy",
            ) from error
