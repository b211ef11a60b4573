"""Parts as they come, each once: where a gather counts or sums, and order does not matter.

A heap is a sequence whose positions are handed over in any order. What was handed over
beyond the cursor is remembered as taken, so that a repeat counts for nothing; behind the
cursor nothing needs to be remembered. The cursor tells when all of it came.

Source: API "Gathers" 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolekit.model.reassembly import ClosedBy, Closing, Cursor, OnFailed, Rules, Walk, walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rolekit.model.position import Path


def is_welcome(closing: Closing, *, waits: bool) -> bool:
    """Say whether a closing is something to take.

    Args:
        closing: Stored already, at a position that was not handed over.
        waits: Whether a failure is left for a replay to fill the hole.
    """
    return not (waits and closing.by is ClosedBy.FAILED)


def is_late(cursor: Cursor, path: Path) -> bool:
    """Say whether a position lies behind the cursor, where everything was handed over."""
    if cursor.is_finished:
        return True
    return path < cursor.next and path not in cursor.open_ancestors()


def ends_taken(held_total: int | None, new: Closing) -> bool:
    """Say whether a second closing of a position that was taken counts: it ends a split.

    Args:
        held_total: -1 for a split that goes on.
        new: What came.
    """
    return held_total == GOES_ON and new.by is ClosedBy.SPLIT and new.total is not None


GOES_ON = -1
"""The number of children of a split that was taken and has not ended."""


def outline(sequence: str, path: Path, total: int | None) -> Closing:
    """Stand for a position that was taken: only where its split ends still matters."""
    if total is None:
        return Closing(sequence=sequence, path=path, by=ClosedBy.DROPPED)
    ended = None if total == GOES_ON else total
    return Closing(sequence=sequence, path=path, by=ClosedBy.SPLIT, total=ended)


def taken_total(closing: Closing) -> int | None:
    """Return what `outline` needs to know of a position that is taken."""
    if closing.by is not ClosedBy.SPLIT:
        return None
    return GOES_ON if closing.total is None else closing.total


def scoop(
    cursor: Cursor,
    waiting: Mapping[Path, Closing],
    taken: Mapping[Path, Closing],
    on_failed: OnFailed,
) -> Walk:
    """Take everything that waits.

    Args:
        cursor: Before which all was handed over.
        waiting: What was not handed over.
        taken: Outlines of what was, from the cursor on, and of the open splits above it.
        on_failed: What a failure does.

    Returns:
        The run, and where the cursor stands then.
    """
    items: list[Closing] = []
    dropped = 0
    for path in sorted(waiting):
        closing = waiting[path]
        if closing.by is ClosedBy.FAILED and on_failed == "fail":
            return Walk((), 0, cursor, closing)
        if closing.by is ClosedBy.PART or (
            closing.by is ClosedBy.FAILED and on_failed == "hole"
        ):
            items.append(closing)
        elif closing.by is not ClosedBy.SPLIT:
            dropped += 1
    there = {**taken, **_outlines(waiting.values())}
    return Walk(tuple(items), dropped, walk("", cursor, there, _ALL).cursor)


def missing(
    sequence: str,
    cursor: Cursor,
    waiting: Mapping[Path, Closing],
    taken: Mapping[Path, Closing],
    rules: Rules,
) -> tuple[Closing, ...]:
    """Return what did not come before the deadline, from the cursor on, up to the limit."""
    there = {**taken, **_outlines(waiting.values())}
    return walk(sequence, cursor, there, rules).missing


def _outlines(closings: Iterable[Closing]) -> dict[Path, Closing]:
    return {c.path: outline(c.sequence, c.path, taken_total(c)) for c in closings}


_ALL = Rules(limit=1 << 62)
