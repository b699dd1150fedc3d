"""Tables for people: drawn where there is room for them, and line by line where there is not.

No word is ever broken, because whoever reads an id, an address or a date may want to copy it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

    from rich.table import Table as RichTable

_WIDE: Final = 200
"""Characters in a line of a table that goes to a file or a pipe, which have no width of their own."""

_FRAME: Final = 3
"""Characters beside the content of each column: a line and two spaces; one more line ends the table."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table for people; every row has a cell for each column.

    Columns named in `spare` are left out, the first of them first, where a terminal is too narrow.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    spare: Sequence[str] = ()


def printable(text: str) -> str:
    """Replace what could steer a terminal, or not be encoded: names come from peers and from file systems."""
    return "".join(each if each.isprintable() or each in "\n\t" else "\ufffd" for each in text)


def drawn(table: Table, stream: TextIO) -> str:
    """Return the table as `stream` has room for it, without a line's end; it goes nowhere else."""
    from rich.console import Console

    table = replace(table, rows=[[printable(cell) for cell in row] for row in table.rows])
    console = Console(file=stream, width=None if stream.isatty() else _WIDE)
    for left_out in range(len(table.spare) + 1):
        missing = table.spare[:left_out]
        shown = _without(table, missing)
        if widths := _widths(shown, console.width):
            with console.capture() as framed:
                console.print(_framed(shown, widths))
            text = framed.get().rstrip("\n")
            return f"{text}\nleft out, for the terminal is narrow: {', '.join(missing)}" if missing else text
    return _records(table)


def _without(table: Table, missing: Sequence[str]) -> Table:
    kept = [at for at, name in enumerate(table.columns) if name not in missing]
    rows = [[row[at] for at in kept] for row in table.rows]
    return Table([table.columns[at] for at in kept], rows, table.title)


def _widths(table: Table, room: int) -> list[int]:
    """Return how wide each column is for all to be within `room`, no word broken; [] where that cannot be.

    Columns that lack little to hold their cells in one line are given that first.
    """
    from rich.cells import cell_len

    cells = list(zip(table.columns, *table.rows, strict=True))
    widths = [max(cell_len(word) for cell in column for word in ["-", *cell.split()]) for column in cells]
    lacking = [max(map(cell_len, column)) - width for column, width in zip(cells, widths, strict=True)]
    left = room - sum(widths) - _FRAME * len(widths) - 1
    if left < 0:
        return []
    for at in sorted(range(len(widths)), key=lacking.__getitem__):
        given = min(lacking[at], left)
        widths[at] += given
        left -= given
    return widths


def _framed(table: Table, widths: Sequence[int]) -> RichTable:
    from rich.table import Table as RichTable
    from rich.text import Text

    framed = RichTable(title=table.title or None, title_justify="left")
    for column, width in zip(table.columns, widths, strict=True):
        framed.add_column(column, width=width, overflow="fold")
    for row in table.rows:
        # Names come from peers: as Text, brackets in them are not taken for markup.
        framed.add_row(*map(Text, row))
    return framed


def _records(table: Table) -> str:
    """Return the table's rows one after the other, a line for each cell, which a terminal may go on with."""
    from rich.cells import cell_len, set_cell_size

    named = any(table.columns)
    labels = table.columns if named else [row[0] for row in table.rows]
    margin = max(map(cell_len, labels), default=0) + 2
    rows = [list(zip(table.columns, row, strict=True)) for row in table.rows]
    if not named:
        # Its rows have their names in the first column.
        rows = [[(row[0], " ".join(row[1:])) for row in table.rows]]
    blocks = ["\n".join(f"{set_cell_size(name, margin)}{cell}" for name, cell in row) for row in rows]
    return "\n\n".join([*([table.title] if table.title else []), *blocks])
