"""A process that serves peers uses the memory of its buffers again."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import resource
from qkt_node.allocator import reuse_buffers

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def stream():
    held = [b"x" * 2**20 for _ in range(8)]

{before}
for _ in range(3):
    stream()
start = faults()
for _ in range(20):
    stream()
print(faults() - start)
"""
PAGES = 20 * 8 * 2**20 // 4096
"""What the buffers of the measured rounds fill together."""


@pytest.mark.parametrize("reused", [True, False])
def test_pages_are_cleared_once(reused: bool) -> None:
    """With it no page of a freed buffer is fetched from the system again; without, nearly each is."""
    script = SCRIPT.format(before="reuse_buffers()" if reused else "")
    faults = int(subprocess.check_output([sys.executable, "-c", script]))
    assert faults < PAGES / 20 if reused else faults > PAGES / 2
