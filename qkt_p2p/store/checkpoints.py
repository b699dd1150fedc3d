"""Model files: one safetensors file per version under models/, and the link `current` to one of them.

A file appears under its name whole and on disk, or not at all; the link changes in one step. Reading a
file's metadata needs neither numpy nor torch, so the daemon can tell what a model is.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final

from qkt_p2p.errors import ConfigError
from qkt_p2p.files import parse_json, replace_file, sync_folder, unwritable

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

CURRENT: Final = "current"
"""Name of the link under models/."""

MAX_HEADER_BYTES: Final = 16 * 1024 * 1024
"""Largest header accepted; that of a network with ten thousand arrays takes about one MiB."""

_LENGTH: Final = struct.Struct("<Q")


def save_checkpoint(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> str:
    """Write arrays and metadata to `path` in one step; returns the SHA-256 of the file, hexadecimal.

    Equal arrays and metadata give equal files.
    Raises QktError where the disk is full or fails: an earlier file of that name is then untouched.
    """
    from safetensors.numpy import save  # noqa: PLC0415 - imports numpy, which the daemon must not

    content = _with_sorted_header(
        save({name: _contiguous(array) for name, array in arrays.items()}, dict(metadata))
    )
    replace_file(path, content)
    return hashlib.sha256(content).hexdigest()


def load_checkpoint(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the arrays and the metadata of a model file; raises ConfigError where it is unreadable."""
    from safetensors import SafetensorError  # noqa: PLC0415 - see save_checkpoint
    from safetensors.numpy import load  # noqa: PLC0415

    metadata = read_metadata(path)
    try:
        return load(path.read_bytes()), metadata
    # ValueError: shapes that numpy does not take.
    except (OSError, ValueError, SafetensorError) as error:
        raise _unreadable(path, str(error)) from error


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a model file from its header alone; raises ConfigError where it is unreadable.

    Layout: 8 bytes little-endian length, then that much JSON (safetensors format, version 0).
    """
    try:
        with path.open("rb") as file:
            (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
            header = file.read(min(length, MAX_HEADER_BYTES))
        if len(header) != length:
            raise _unreadable(path, f"its header should have {length} bytes")
        metadata = parse_json(header).get("__metadata__", {})
        return {str(key): str(value) for key, value in metadata.items()}
    except (OSError, ValueError, AttributeError, struct.error) as error:
        raise _unreadable(path, str(error)) from error


def set_current(models_dir: Path, file_name: str) -> None:
    """Let `current` name a file of `models_dir`, in one step; raises ConfigError where there is none."""
    if Path(file_name).name != file_name or not (models_dir / file_name).is_file():
        raise ConfigError(f"{models_dir} holds no model file {file_name!r}", fix="qkt-node models list")
    # Relative, so that a home can be moved or mounted elsewhere.
    waiting = models_dir / f".{CURRENT}.{os.getpid()}"
    try:
        waiting.unlink(missing_ok=True)
        waiting.symlink_to(file_name)
        waiting.replace(models_dir / CURRENT)
        sync_folder(models_dir)
    except OSError as error:
        raise unwritable(models_dir / CURRENT, error) from error


def current_file(models_dir: Path) -> Path | None:
    """Return the file that `current` names, or None where nothing is current yet.

    Raises ConfigError where the link leads nowhere, or out of `models_dir`.
    """
    link = models_dir / CURRENT
    if not link.is_symlink():
        return None
    name = str(link.readlink())
    file = models_dir / name
    if Path(name).name != name or not file.is_file():
        raise ConfigError(f"{link} leads to {name!r}, which is no model file", fix="qkt-node models list")
    return file


def _contiguous(array: np.ndarray) -> np.ndarray:
    import numpy as np  # noqa: PLC0415 - see save_checkpoint

    # safetensors writes an array's memory as it lies, whatever its strides.
    return np.ascontiguousarray(array).reshape(array.shape)


def _with_sorted_header(content: bytes) -> bytes:
    # safetensors writes metadata in the order of a randomly seeded hash map.
    (length,) = _LENGTH.unpack_from(content)
    end = _LENGTH.size + length
    header = json.dumps(
        json.loads(content[_LENGTH.size : end]), ensure_ascii=False, separators=(",", ":"), sort_keys=True
    ).encode()
    # Spaces keep the arrays aligned to 8 bytes, as the format asks.
    header += b" " * (-len(header) % _LENGTH.size)
    return b"".join((_LENGTH.pack(len(header)), header, memoryview(content)[end:]))


def _unreadable(path: Path, reason: str) -> ConfigError:
    return ConfigError(
        f"the model file {path} is damaged or unreadable: {reason}", fix="qkt-node models list"
    )
