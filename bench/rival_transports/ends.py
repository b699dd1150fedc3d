"""What both rivals' ends share; needs numpy and nothing else, so that each rival's own Python runs it.

A process says one JSON object a line: {} when it is ready, after each exchange how long it took, and {} again
when, its input having ended, it has compared what came with what was sent.
"""

import json
import sys
import time

import numpy as np

LOOK_SECONDS = 0.001
MIB = 1024 * 1024
ARRAYS = 8
"""Arrays of equal size, as the layers of a model would be."""


def arrays_of(mebibytes):
    """Return float32 arrays of that many MiB together, that no compression shortens."""
    numbers = np.random.default_rng(0).random(mebibytes * MIB // 4, dtype=np.float32)
    return np.split(numbers, ARRAYS)


def mark(arrays, turn):
    """Make each of the arrays another than in every other turn, and return them."""
    for array in arrays:
        array[0] = turn
    return arrays


def require_same(arrays, expected):
    """Raise ValueError unless the arrays are those."""
    if not all(np.array_equal(one, other) for one, other in zip(arrays, expected, strict=True)):
        raise ValueError("what came is not what was sent")


def repeat(exchange):
    """Make an exchange for each line that is read, and say how long it took."""
    for _ in sys.stdin:
        begun = time.perf_counter()
        exchange()
        say({"seconds": time.perf_counter() - begun})


def tell(file):
    """Say to another process by a file that it may go on."""
    file.touch()


def wait_for(file):
    """Return once another process has said so."""
    while not file.exists():
        time.sleep(LOOK_SECONDS)


def say(told):
    """Write one line."""
    sys.stdout.write(f"{json.dumps(told)}\n")
    sys.stdout.flush()
