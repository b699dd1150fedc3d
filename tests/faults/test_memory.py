"""What a process uses of its memory is told apart from what its allocator keeps.

Each is measured in a process of its own: in that of the tests, other threads allocate and free meanwhile.
"""

from __future__ import annotations

import subprocess
import sys
from textwrap import dedent


def _measured(script: str) -> list[float]:
    """Return the numbers that `script` prints in a process where nothing else runs."""
    command = [sys.executable, "-W", "error", "-c", dedent(script)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return [float(number) for number in done.stdout.split()]


def test_what_malloc_gave_out_is_used_until_it_is_freed() -> None:
    """To the MiB, in pieces that it takes from its heap as in those that it asks the system for."""
    script = """
        from qkt_node.cluster.chaos.memory import used_mebibytes
        for size in (64 * 1024, 8 * 2**20):
            before = used_mebibytes()
            held = [bytes(size) for _ in range(16 * 2**20 // size)]
            print(round(used_mebibytes() - before, 2))
            held.clear()
            print(round(used_mebibytes() - before, 2))
    """
    from_heap, left_in_heap, mapped, left_mapped = _measured(script)
    assert 16 <= from_heap < 17
    assert 16 <= mapped < 17
    assert abs(left_in_heap) < 1
    assert abs(left_mapped) < 1


def test_blocks_are_those_of_objects_that_live() -> None:
    """What only a cycle still holds does not count."""
    script = """
        import sys
        from qkt_node.cluster.chaos.memory import used_blocks
        before = used_blocks()
        held = [[] for _ in range(1000)]
        print(used_blocks() - before)
        held.append(held)
        del held
        print(sys.getallocatedblocks() - before)
        print(used_blocks() - before)
    """
    living, uncollected, collected = _measured(script)
    assert 1000 <= living < 1100
    assert uncollected > 1000
    assert abs(collected) < 100
