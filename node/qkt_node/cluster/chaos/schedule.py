"""Which fault befalls which node at which step of a query: plain data from a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from qkt_p2p.errors import UsageError
from qkt_p2p.outcome import STEPS
from qkt_p2p.seeds import derived_seed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MOST_FAULTS: Final = 3
"""Faults in one schedule: enough for two that meet, few enough to tell which one it was."""

Parameters = dict[str, float]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault: what it does, how its parameters are drawn, whom and when it befalls."""

    does: str
    draw: Callable[[random.Random], Parameters] = lambda _: {}
    steps: tuple[str, ...] = STEPS
    teachers_only: bool = False


_AT_TEACHERS: Final = ("discover", "probe", "collect")
"""Later no teacher says anything that could be a lie."""

_MOST_BYTES: Final = 64 * 1024
"""Where a stream is cut or spoilt: a response of digits is about as long."""


def _after(generator: random.Random) -> Parameters:
    return {"bytes": generator.randrange(_MOST_BYTES)}


def _chunk(generator: random.Random) -> Parameters:
    return {"chunk": generator.randrange(4)}


KINDS: Final[Mapping[str, Kind]] = {
    "kill": Kind("kill -9 of the daemon and its worker; it starts again afterwards"),
    "pause": Kind("SIGSTOP of the daemon and its worker, then SIGCONT"),
    "partition": Kind("nothing gets through, in either direction; what was on its way arrives afterwards"),
    "half-open": Kind("connections are accepted, and nothing on them is ever answered"),
    "slow-loris": Kind(
        "strangers hold connections and say a byte at a time",
        lambda generator: {"connections": generator.randrange(8, 65)},
    ),
    "delay": Kind(
        "every packet comes later, by a varying time",
        lambda generator: {
            "seconds": round(generator.uniform(0.005, 0.1), 3),
            "jitter": round(generator.uniform(0, 0.1), 3),
        },
    ),
    "loss": Kind(
        "connections break at random: TCP hides the loss of packets, up to this",
        lambda generator: {"probability": round(generator.uniform(0.01, 0.3), 3)},
    ),
    "rate": Kind(
        "so many bytes per second, and no more",
        lambda generator: {"bytes_per_second": generator.choice((8, 32, 128)) * 1024},
    ),
    "cut": Kind("the connection breaks after so many bytes", _after),
    "spoil": Kind("a byte of the encrypted stream is changed after so many bytes", _after),
    "corrupt-chunk": Kind(
        "the teacher sends a chunk that is not the one it offered", _chunk, _AT_TEACHERS, teachers_only=True
    ),
    "truncated-stream": Kind(
        "the teacher ends its response early, as if that were all", _chunk, _AT_TEACHERS, teachers_only=True
    ),
    "duplicate-chunk": Kind("the teacher sends a chunk twice", _chunk, _AT_TEACHERS, teachers_only=True),
    "reordered-chunks": Kind(
        "the teacher sends its chunks backwards", steps=_AT_TEACHERS, teachers_only=True
    ),
    "clock-skew": Kind(
        "the node's clock is wrong by so many seconds",
        lambda generator: {"seconds": generator.choice((-1, 1)) * generator.randrange(600, 7200)},
    ),
    "expiring-certificate": Kind(
        "the node's certificate ends within so many seconds",
        lambda generator: {"seconds": generator.randrange(2, 6)},
    ),
    "full-disk": Kind("nothing more can be written"),
}
"""What may happen, in the order of --help."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: it begins when `step` is done to `share` and ends `seconds` later, 0: with the query."""

    step: str
    share: float
    node: str
    kind: str
    parameters: Parameters
    seconds: float

    def __str__(self) -> str:
        told = ", ".join(f"{name} {value:g}" for name, value in self.parameters.items())
        lasting = f" for {self.seconds:g} s" if self.seconds else ""
        at = f" at {self.share:.0%}" if self.share else ""
        return f"{self.step}{at}: {self.kind} of {self.node}{f' ({told})' if told else ''}{lasting}"


@dataclass(frozen=True, slots=True)
class Schedule:
    """The faults of one query, and the seed that they were drawn from."""

    seed: int
    faults: tuple[Fault, ...]


def require_kinds(names: Sequence[str]) -> None:
    """Raise UsageError where one is no kind of fault."""
    if unknown := [name for name in names if name not in KINDS]:
        raise UsageError(
            f"unknown fault {unknown[0][:40]!r}", fix=f"--faults one or more of {','.join(KINDS)}"
        )


def draw_schedule(
    seed: int, *, asker: str, teachers: Sequence[str], kinds: Sequence[str] = tuple(KINDS)
) -> Schedule:
    """Return the one schedule of this seed for these nodes and kinds of fault."""
    generator = random.Random(derived_seed(seed, "chaos"))  # noqa: S311 - to be repeated, not to be secret
    count = generator.randint(1, MOST_FAULTS)
    return Schedule(seed, tuple(_draw(generator, asker, teachers, kinds=kinds) for _ in range(count)))


def _draw(generator: random.Random, asker: str, teachers: Sequence[str], *, kinds: Sequence[str]) -> Fault:
    name = generator.choice(sorted(kinds))
    kind = KINDS[name]
    node = generator.choice(teachers if kind.teachers_only else (asker, *teachers))
    # An asker that is stopped for ever, or does not start with its clock, never ends its query.
    ends = generator.random() < 0.7 or (node == asker and name in ("pause", "clock-skew"))
    return Fault(
        step=generator.choice(kind.steps),
        share=round(generator.random(), 2) if generator.random() < 0.5 else 0.0,
        node=node,
        kind=name,
        parameters=kind.draw(generator),
        seconds=round(generator.uniform(0.1, 3.0), 1) if ends else 0.0,
    )
