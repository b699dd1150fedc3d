"""What a process uses of its memory is told apart from what its allocator keeps."""

from __future__ import annotations

import sys

from qkt_node.cluster.chaos.memory import used_blocks, used_mebibytes


def test_what_malloc_gave_out_is_used_until_it_is_freed() -> None:
    """To the MiB, in pieces that it takes from its heap as in those that it asks the system for."""
    for size in (64 * 1024, 8 * 2**20):
        before = used_mebibytes()
        held = [bytes(size) for _ in range(16 * 2**20 // size)]
        assert 16 <= used_mebibytes() - before < 17
        held.clear()
        assert abs(used_mebibytes() - before) < 1


def test_blocks_are_those_of_objects_that_live() -> None:
    """What only a cycle still holds does not count."""
    before = used_blocks()
    held: list[object] = [[] for _ in range(1000)]
    assert 1000 <= used_blocks() - before < 3000
    held.append(held)
    del held
    assert sys.getallocatedblocks() - before > 1000
    assert abs(used_blocks() - before) < 100
