"""Standard streams that may be closed, full, or read by nobody any more."""

import os
import sys
from contextlib import suppress
from typing import TextIO


def fill_closed_streams() -> None:
    """Put something in the place of each standard stream that this process was started without.

    Otherwise the next file that is opened would get its number, and what libraries write to it. An answer
    that nobody gets is an error, so stdout takes nothing then; what is lost of stderr was never asked for.
    """
    if sys.stdin is None:
        sys.stdin = os.fdopen(os.open(os.devnull, os.O_RDONLY), "r")
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w")
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")


def put(stream: TextIO, text: str) -> None:
    """Write `text` at once; raises OSError where the stream does not take it, and what follows is dropped."""
    try:
        stream.write(text)
        stream.flush()
    except OSError:
        drop(stream)
        raise


def drop(stream: TextIO) -> None:
    """Lose what a stream did not take, and all that follows: Python would try once more when it ends."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        stream.flush()


def put_if_possible(stream: TextIO, text: str) -> None:
    """Write `text`, or lose it: nobody is left to be told."""
    with suppress(OSError):
        put(stream, text)
