"""Files that are replaced in one step: after a crash or on a full disk the old content is still there.

And JSON that was not written here, or may be damaged.
"""

from __future__ import annotations

import json
import math
import os
import shlex
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from qkt_p2p.errors import QktError


def replace_file(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Put `content` on disk under `path`, whole or not at all; raises QktError where the disk fails.

    The file has `mode` from its first byte on.
    """
    waiting: Path | None = None
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        waiting = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        waiting.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        if waiting is not None:
            with suppress(FileNotFoundError):
                waiting.unlink()


def sync_folder(folder: Path) -> None:
    """Make a rename within `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def unwritable(path: Path, error: OSError) -> QktError:
    """Return the error that says that `path` cannot be written, and why."""
    looking = shlex.join(["df", "-h", str(path.parent)])
    return QktError(
        f"cannot write {path}: {error.strerror}",
        fix=f"check space and permissions of {path.parent} (`{looking}`), then repeat",
    )


def parse_json(text: str | bytes) -> Any:
    """Return what a JSON text holds, whoever wrote it; raises ValueError and nothing else.

    Numbers are finite, for `int` of an infinite one raises OverflowError; nesting ends well before it would
    use up the stack.
    """
    try:
        return json.loads(text, parse_float=_finite, parse_constant=_finite)
    except RecursionError as error:
        raise ValueError("JSON is nested too deeply") from error


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"JSON holds the number {text[:40]}, which is not finite")
    return number
