"""Answers that are one file: cut into chunks by the teacher, joined by the asker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qkt_p2p.errors import ProtocolError
from qkt_p2p.limits import MAX_FILE_BYTES
from qkt_p2p.synthesis.medium import Part

if TYPE_CHECKING:
    from collections.abc import Sequence


def cut_file(data: bytes, samples: int, *, chunk_bytes: int) -> list[Part]:
    """Return a file in pieces; the first one counts for all its `samples`, the others for none."""
    pieces = [data[start : start + chunk_bytes] for start in range(0, len(data), chunk_bytes)]
    return [Part(piece, samples if at == 0 else 0) for at, piece in enumerate(pieces)]


def joined_file(parts: Sequence[bytes]) -> bytes:
    """Return the file that was cut; raises ProtocolError where it is larger than allowed."""
    size = sum(map(len, parts))
    if size > MAX_FILE_BYTES:
        raise ProtocolError(f"an answer takes {size} bytes, allowed are {MAX_FILE_BYTES}")
    return b"".join(parts)
