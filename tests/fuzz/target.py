"""What is fuzzed: one function of bytes, the errors that it promises, and what helps to get far into it."""

from __future__ import annotations

import atexit
import base64
import importlib
import pkgutil
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

Mutate = Callable[[bytes, Random], bytes]
"""Changes an input within its own structure; takes any bytes, and the same random numbers give the same."""

CORPUS = Path(__file__).with_name("corpus")
_TARGETS = Path(__file__).with_name("targets")


@dataclass(frozen=True)
class Target:
    """A decoder, or a node that is served bytes.

    Whatever `run` raises beyond `promised` is a finding. `seeds` makes inputs to begin with, sound ones
    among them.
    """

    run: Callable[[bytes], object]
    promised: tuple[type[Exception], ...]
    seeds: Callable[[], Sequence[bytes]]
    mutate: Mutate | None = None
    dictionary: tuple[bytes, ...] = ()

    def __call__(self, data: bytes) -> None:
        try:
            self.run(data)
        except self.promised:
            return


def scratch() -> Path:
    """Return a new folder for this process, which is removed when it ends."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def families() -> list[str]:
    """Return the modules under targets/."""
    return sorted(found.name for found in pkgutil.iter_modules([str(_TARGETS)]))


def targets_of(family: str) -> dict[str, Target]:
    """Return the targets of one module by their full names; only now is what they fuzz imported."""
    module = importlib.import_module(f"tests.fuzz.targets.{family}")
    return {f"{family}.{name}": target for name, target in module.TARGETS.items()}


def find(name: str) -> Target:
    """Return one target by its full name; raises KeyError."""
    return targets_of(name.partition(".")[0])[name]


def corpus_of(name: str) -> list[bytes]:
    """Return the inputs that fuzzing kept for a target: each reaches something that no other one does."""
    path = corpus_file(name)
    return [base64.b64decode(line) for line in path.read_text().splitlines()] if path.exists() else []


def save_corpus(name: str, inputs: Sequence[bytes]) -> None:
    """Keep inputs, shortest first, each as one line of text."""
    lines = [base64.b64encode(data).decode() for data in sorted(inputs, key=lambda each: (len(each), each))]
    CORPUS.mkdir(exist_ok=True)
    corpus_file(name).write_text("".join(f"{line}\n" for line in lines))


def corpus_file(name: str) -> Path:
    """Return where the inputs of a target are kept, in base64."""
    return CORPUS / f"{name}.txt"
