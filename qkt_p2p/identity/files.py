"""Small files that hold keys and certificates: read with a cap, replaced atomically."""

from __future__ import annotations

import shlex
import stat
from typing import TYPE_CHECKING, Final

from qkt_p2p.errors import ConfigError, QktError
from qkt_p2p.files import replace_file

if TYPE_CHECKING:
    from pathlib import Path

MAX_IDENTITY_FILE_BYTES: Final = 64 * 1024
"""Largest key, request or bundle that is read; a certificate takes about one kilobyte."""

_FORBIDDEN: Final = stat.S_IRWXG | stat.S_IRWXO


def load_file(path: Path, *, fix: str = "", limit: int = MAX_IDENTITY_FILE_BYTES) -> bytes:
    """Return the bytes of a regular file of at most `limit`; raises ConfigError.

    `fix` is what to do where there is no such file, or another kind of thing in its place.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(limit + 1)
    except PermissionError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror}", fix="run the same as the user to whom the file belongs"
        ) from error
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", fix=fix) from error
    if len(data) > limit:
        raise ConfigError(f"{path} is larger than {limit} bytes: it is not what belongs there", fix=fix)
    return data


def load_private_file(path: Path, *, fix: str = "", limit: int = MAX_IDENTITY_FILE_BYTES) -> bytes:
    """Return the bytes of a file that only its owner may read; raises ConfigError where others may too."""
    data = load_file(path, fix=fix, limit=limit)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & _FORBIDDEN:
        raise ConfigError(
            f"{path} holds a secret, and users other than its owner may open it (mode {mode:04o})",
            fix=shlex.join(["chmod", "600", str(path)]),
        )
    return data


def save_file(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replace `path` by `data` so that a crash leaves either the old file or the new one.

    The file has `mode` from its first byte on. Raises ConfigError where it cannot be written.
    """
    try:
        replace_file(path, data, mode=mode)
    except QktError as error:
        raise ConfigError(error.message, fix=error.fix) from error


def make_private_directory(path: Path) -> None:
    """Make `path` with mode 0700, parents included; an existing directory keeps its mode."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the directory {path}: {error.strerror}") from error
