"""Seeds that follow from other seeds, the same in every process and on every machine."""

from __future__ import annotations

import hashlib


def derived_seed(seed: int, *purpose: str) -> int:
    """Return a seed in [0, 2**63) for one purpose; different purposes give unrelated seeds."""
    text = "\x1f".join([str(seed), *purpose])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
