"""`make fuzz`: fuzzes every target, or some, for a while each; ends with 1 where anything is found."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from fnmatch import fnmatch
from pathlib import Path

from tests.fuzz.runner import Outcome, fuzz, keep, note
from tests.fuzz.target import families, targets_of


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=30, help="for each target")
    parser.add_argument("--inputs", type=int, default=0, help="end a target earlier, after so many")
    parser.add_argument("--target", default="*", help="a name or a pattern (wire.*); several by commas")
    parser.add_argument("--report", type=Path, help="note there, as JSON, what came of each target")
    parser.add_argument("--keep", action="store_true", help="keep what was reached in tests/fuzz/corpus")
    options = parser.parse_args()
    names = [name for family in families() for name in targets_of(family) if _matches(name, options.target)]
    if not names:
        every = ", ".join(name for family in families() for name in targets_of(family))
        parser.error(f"no target is called {options.target!r}; there are {every}")
    if importlib.util.find_spec("atheris") is None:
        parser.error("atheris is not installed: there is none for this Python or machine (docs/security.md)")
    return _run(names, options)


def _matches(name: str, patterns: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns.split(","))


def _run(names: list[str], options: argparse.Namespace) -> int:
    outcomes: dict[str, Outcome] = {}
    print(f"{'target':28} {'inputs':>10} {'per s':>8} {'edges':>6} {'corpus':>6} {'MiB':>6} {'grown':>6}")  # noqa: T201
    for name in names:
        made = outcomes[name] = fuzz(name, options.seconds, options.inputs)
        grown = made.mib_end - made.mib_warm
        print(  # noqa: T201
            f"{name:28} {made.inputs:10,} {made.inputs_per_second:8,} {made.edges:6} {made.corpus:6} "
            f"{made.mib_end:6.0f} {grown:6.1f} {made.finding}",
            flush=True,
        )
        if options.keep and not made.finding:
            keep(name)
        if options.report:
            limits = ["--seconds", str(options.seconds), "--inputs", str(options.inputs)]
            command = ["python", "-m", "tests.fuzz", "--target", name, *limits]
            note(options.report, name, made, command=command)
    print(f"{sum(made.inputs for made in outcomes.values()):,} inputs")  # noqa: T201
    return int(any(made.finding for made in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())
