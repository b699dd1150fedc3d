"""The address of a home's control socket, as gRPC reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from pathlib import Path


def unix_target(path: Path) -> str:
    """Return gRPC's name of a unix socket: a URI, in which most characters are escaped."""
    return f"unix:{quote(str(path))}"
