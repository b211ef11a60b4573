"""Splits that take several commits, in memory."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rolekit.errors import StateClash
from rolekit.store.memory_sequences import FAILED, OPEN
from rolekit.store.splits import SplitMove, SplitRow

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rolekit.store.base import Step
    from rolekit.store.memory_tables import MemoryTables

DAY_MS = 86_400_000


def check_splits(tables: MemoryTables, steps: Iterable[Step]) -> None:
    """Refuse steps whose split was gone on with elsewhere.

    Raises:
        StateClash: One was, or its message had its outcome.
    """
    for step in steps:
        move = step.split
        if move is None:
            continue
        generation, row = tables.splits.get(move.id, (0, None))
        there = 0 if row is None else row.next
        begins = not move.before and not move.is_last
        if there != move.before or generation > move.generation or begins is (row is not None):
            raise StateClash(f"The split {move.id} was gone on with elsewhere.")
        key = (step.id, step.generation, step.birth_ms // DAY_MS)
        if step.skips_inbox and not move.is_last and key in tables.inbox:
            raise StateClash(f"The split {step.id} had its outcome.")


def move_splits(tables: MemoryTables, steps: Iterable[Step]) -> None:
    """Move the splits of these steps on; their sequences have been opened."""
    for move in (step.split for step in steps if step.split is not None):
        if move.is_last:
            del tables.splits[move.id]
        else:
            tables.splits[move.id] = (move.generation, _row_of(move))
        _move_sequence(tables, move)


def _row_of(move: SplitMove) -> SplitRow:
    return SplitRow(
        id=move.id,
        origin=move.origin,
        sequence=move.sequence,
        next=move.after,
        places=move.places,
        digest=move.digest,
    )


def _move_sequence(tables: MemoryTables, move: SplitMove) -> None:
    row = tables.sequences.rows.get(move.sequence)
    if row is None:
        return
    if move.source is not None:
        row.opening = replace(row.opening, source=move.source)
    if move.is_failed and row.state == OPEN:
        row.state = FAILED
