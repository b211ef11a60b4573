"""Printing: results to standard output, everything else to standard error."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import msgspec
from rich.cells import cell_len
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from rolekit.errors import ConfigError, RolekitError, Unavailable
from rolekit.supervisor.wire import AppBroken

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import RenderableType

FAILED = 1
WRONG_USE = 2
_GAP, _INDENT = 2, 4


def say(line: str) -> None:
    """Print one line for people to standard error, at once."""
    print(visible(line), file=sys.stderr, flush=True)  # noqa: T201 - the command line speaks


def out(line: str) -> None:
    """Print one line of a result to standard output."""
    print(visible(line), flush=True)  # noqa: T201 - the command line speaks


def out_ready(line: str) -> None:
    """Print a line that is made visible already, and may have colours of ours."""
    print(line, flush=True)  # noqa: T201 - the command line speaks


def out_json(value: object) -> None:
    """Print a result for programs."""
    out(msgspec.json.format(msgspec.json.encode(value, enc_hook=str)).decode())


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


def report(error: RolekitError) -> int:
    """Print an error as a sentence; return the exit code for it."""
    if isinstance(error, AppBroken):
        _report_app(error)
        return FAILED
    say(f"rolekit: {error.what}")
    if error.fix:
        say(f"    {error.fix}")
    return WRONG_USE if isinstance(error, ConfigError | Unavailable) else FAILED


def _report_app(error: AppBroken) -> None:
    if error.traceback:
        sys.stderr.write(error.traceback)
    count = len(error.problems)
    say(f"{error.app}: {count} problem{'s' if count > 1 else ''}")
    for problem in error.problems:
        say(problem.what)
        if problem.fix:
            say(f"    {problem.fix}")


def visible(text: str) -> str:
    """Escape what a message could use to play with a terminal."""
    return "".join(
        char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode()
        for char in text
    )
