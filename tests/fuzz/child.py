"""Fuzzes one target in this process, guided by the coverage of the node's Python code.

Started by the runner as `python -m tests.fuzz.child TARGET STATISTICS ARGUMENT-OF-LIBFUZZER...`. Ends as
libFuzzer does: with 0 when its time is up, with another code at the first finding, whose input it writes.
"""

from __future__ import annotations

import json
import resource
import sys
import time
import warnings
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import atheris

if TYPE_CHECKING:
    from tests.fuzz.target import Target

_OWN = ["qkt_p2p", "qkt_node"]
_NOT_OURS = ["qkt_p2p.pb"]
_STRUCTURED = 0.5
"""Part of the changes that keep to an input's own structure, where a target has one."""

_PAGE = resource.getpagesize()
_WARM_SECONDS = 3.0
"""Memory counts from then on: caches are full, libraries loaded."""

_NOTE_SECONDS = 0.5


class Watched:
    """A target as libFuzzer calls it; notes in a file what memory it takes, MiB, resident.

    libFuzzer ends the process without ceremony, so the file is written now and then.
    """

    def __init__(self, target: Target, statistics: Path) -> None:
        self._target = target
        self._statistics = statistics
        self._began = time.monotonic()
        self._next = self._began + _WARM_SECONDS
        self._warm = self._highest = 0.0

    def __call__(self, data: bytes) -> None:
        self._target(data)
        if time.monotonic() >= self._next:
            self._note()
            self._next = time.monotonic() + _NOTE_SECONDS

    def _note(self) -> None:
        now = resident()
        self._warm = self._warm or now
        self._highest = max(self._highest, now)
        found = {"mib_warm": self._warm, "mib_highest": self._highest, "mib_end": now}
        self._statistics.write_text(json.dumps({name: round(mib, 1) for name, mib in found.items()}))


def main() -> None:
    """Fuzz; does not return."""
    name, statistics, *arguments = sys.argv[1:]
    with atheris.instrument_imports(include=_OWN, exclude=_NOT_OURS):
        from tests.fuzz.target import find  # noqa: PLC0415 - what it imports is to be instrumented

        target = find(name)
    be_quiet()
    # By this command libFuzzer starts itself anew where it merges.
    again = f"{sys.executable} -m tests.fuzz.child {name} {statistics}"

    def change(data: bytes, most: int, seed: int) -> bytes:
        random = Random(seed)
        if target.mutate is None or random.random() >= _STRUCTURED:
            return bytes(atheris.Mutate(data, most))
        return target.mutate(data, random)[:most]

    atheris.Setup([again, *arguments], Watched(target, Path(statistics)), custom_mutator=change)
    atheris.Fuzz()


def be_quiet() -> None:
    """Log nothing, and take every warning for an error, as the tests do."""
    import structlog  # noqa: PLC0415 - loaded with the target
    from cryptography.utils import CryptographyDeprecationWarning  # noqa: PLC0415

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    warnings.simplefilter("error")
    # It says that certificates with odd serial numbers will be refused one day.
    warnings.simplefilter("ignore", CryptographyDeprecationWarning)
    # It says that a country's code in a name is no code; names are compared as bytes, and a node logs it.
    warnings.filterwarnings("ignore", "Attribute's length must be", UserWarning)


def resident() -> float:
    """Return this process's resident memory, MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * _PAGE / 2**20


if __name__ == "__main__":
    main()
