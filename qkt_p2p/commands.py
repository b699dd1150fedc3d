"""Commands that people are told to type: they run as they are printed."""

from __future__ import annotations

import shlex
from typing import Final

PROGRAM: Final = "qkt-node"


def command(*words: object) -> str:
    """Return the command line that gives `qkt-node` these words, quoted for a shell where they need it.

    What the reader has to fill in is written in capitals: DIR, TOKEN.
    """
    return shlex.join([PROGRAM, *map(str, words)])
