"""Medians and ratios of transfers, and the Markdown table of them."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any, Final

from qkt_bench.transport.load import ASKER, MIB, TEACHER
from qkt_bench.transport.ways import BARE, FILES, WAYS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

GB: Final = 1e9

COLUMNS: Final = (
    "way",
    "MB/s",
    "by grpc.aio",
    "by it, file to file",
    "first chunk",
    "round trip",
    "CPU s/GB, teacher",
    "CPU s/GB, asker",
    "memory over idle, teacher",
    "memory over idle, asker",
)


def summarized(taken: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one row for each way, size and slowness, in the order in which they were taken.

    `ratio` is the median over the repeats of the throughput by that of grpc.aio in the same turn, and
    `ratio_of_files` by that of grpc.aio from file to file; None where there is no such turn. `peak_bytes` is
    the most that was resident over what was before, in the worst turn.
    """
    keys = list(dict.fromkeys((each["way"], each["megabytes"], each["pause"]) for each in taken))
    turns = {key: [each for each in taken if _key(each) == key] for key in keys}
    return {"rows": [_row(key, turns) for key in keys]}


def _key(each: Mapping[str, Any]) -> tuple[str, int, float]:
    return each["way"], each["megabytes"], each["pause"]


def _row(
    key: tuple[str, int, float], turns: Mapping[tuple[str, int, float], Sequence[Mapping[str, Any]]]
) -> dict[str, Any]:
    way, megabytes, pause = key
    mine = turns[key]
    size = megabytes * MIB

    def ratio(other: str) -> float | None:
        theirs = turns.get((other, megabytes, pause), ())
        ratios = [its["seconds"] / each["seconds"] for each, its in zip(mine, theirs, strict=False)]
        return median(ratios) if ratios else None

    return {
        "way": way,
        "megabytes": megabytes,
        "pause": pause,
        "bytes_per_second": median(size / each["seconds"] for each in mine),
        "ratio": ratio(BARE),
        "ratio_of_files": ratio(FILES),
        "first_chunk_seconds": median(each["first_chunk_seconds"] for each in mine),
        "round_trip_seconds": median(each["round_trip_seconds"] for each in mine),
        "processor_seconds_per_gb": {
            side: median(each[side]["processor_seconds"] for each in mine) * GB / size
            for side in (TEACHER, ASKER)
        },
        "peak_bytes": {side: max(each[side]["peak_bytes"] for each in mine) for side in (TEACHER, ASKER)},
        "idle_bytes": {side: median(each[side]["idle_bytes"] for each in mine) for side in (TEACHER, ASKER)},
    }


def table_rows(data: Mapping[str, Any]) -> list[list[str]]:
    """Return the cells of the table."""
    return [
        [
            _name(row),
            f"{row['bytes_per_second'] / 1e6:.0f}",
            *("" if ratio is None else f"{ratio:.2f}" for ratio in (row["ratio"], row["ratio_of_files"])),
            f"{1e3 * row['first_chunk_seconds']:.1f} ms",
            f"{1e3 * row['round_trip_seconds']:.2f} ms",
            *(f"{row['processor_seconds_per_gb'][side]:.2f}" for side in (TEACHER, ASKER)),
            *(f"{row['peak_bytes'][side] / MIB:.0f} MiB" for side in (TEACHER, ASKER)),
        ]
        for row in data["rows"]
    ]


def markdown(data: Mapping[str, Any]) -> str:
    """Return the table, with what each way is."""
    plan, machine = data["plan"], data["machine"]
    lines = [
        f"{plan['repeats']} turns, each way once a turn between two new processes; chunks of "
        f"{plan['chunk_kib']} KiB; {machine['cores']} cores, load average "
        f"{machine['load_average_before'][0]:.1f} before. Medians; of memory the worst.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"|{'---|' * len(COLUMNS)}",
        *(f"| {' | '.join(row)} |" for row in table_rows(data)),
        "",
        *(f"- `{name}`: {way.about}." for name, way in WAYS.items()),
    ]
    return "\n".join(lines) + "\n"


def _name(row: Mapping[str, Any]) -> str:
    slow = f", {1e3 * row['pause']:.0f} ms a chunk at the asker" if row["pause"] else ""
    return f"`{row['way']}`, {row['megabytes']} MiB{slow}"
