"""Tables, as wide as the terminal; apart from `console`, which most commands do with alone.

Rich takes a tenth of the time that a command needs to start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from rolekit.cli.console import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import RenderableType

_GAP, _INDENT = 2, 4


def table(
    columns: Sequence[tuple[str, bool]],
    rows: Iterable[Sequence[str]],
    spare: Sequence[str] = (),
) -> None:
    """Print a table, as `grid` makes it."""
    console().print(grid(columns, rows, spare))


def console() -> Console:
    """Return what prints to standard output, without a width where that is a pipe."""
    made = Console()
    made.width = made.width if made.is_terminal else 10_000  # do not wrap in a pipe
    return made


def grid(
    columns: Sequence[tuple[str, bool]],
    rows: Iterable[Sequence[str]],
    spare: Sequence[str] = (),
) -> RenderableType:
    """Make a table; where it is too wide for the terminal, what is longest goes below its row.

    Args:
        columns: Heading, and whether its values are numbers (set to the right). What does
            not fit stands below its row if it is the last, and is no number.
        rows: Cells in the order of the columns. Control characters are made visible.
        spare: Headings of columns that are left out, in this order, while all but the last
            are too wide.
    """
    cells = [[visible(cell) for cell in row] for row in rows]
    places = list(range(len(columns)))
    has_words = not columns[-1][1]
    widths = [
        max([cell_len(heading), *(cell_len(row[at]) for row in cells)])
        for at, (heading, _) in enumerate(columns)
    ]
    most = console().width
    for heading in spare:
        needed = places[:-1] if has_words else places
        if _width(widths, needed) <= most:
            break
        places = [at for at in places if columns[at][0] != heading]
    if not has_words or _width(widths, places) <= most:
        return _table(columns, cells, places, widths)
    *firsts, last = places
    parts: list[RenderableType] = [_table(columns, [], firsts, widths)]
    for row in cells:
        parts.append(_table(columns, [row], firsts, widths, has_head=False))
        if row[last]:
            parts.append(Padding(Text(row[last]), (0, 0, 0, _INDENT)))
    return Group(*parts)


def _width(widths: Sequence[int], places: Sequence[int]) -> int:
    return sum(widths[at] + _GAP for at in places) - _GAP


def _table(
    columns: Sequence[tuple[str, bool]],
    rows: Sequence[Sequence[str]],
    places: Sequence[int],
    widths: Sequence[int],
    *,
    has_head: bool = True,
) -> Table:
    made = Table(
        box=None, pad_edge=False, header_style="bold", padding=(0, _GAP, 0, 0),
        show_header=has_head,
    )  # fmt: skip
    for at in places:
        heading, is_number = columns[at]
        made.add_column(
            heading, justify="right" if is_number else "left", no_wrap=True, width=widths[at]
        )
    for row in rows:
        made.add_row(*(Text(row[at]) for at in places))
    return made
