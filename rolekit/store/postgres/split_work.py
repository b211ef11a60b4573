"""Moving splits on that take several commits: a chunk each, by compare-and-set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolekit.errors import StateClash
from rolekit.store.postgres.rows import day_of
from rolekit.store.splits import SplitMove, SplitRow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rolekit.connections import Pooled
    from rolekit.store.postgres.rows import Row
    from rolekit.store.records import Step


async def move_splits(
    connection: Pooled, sql: Mapping[str, str], steps: Sequence[Step]
) -> None:
    """Move the splits of these steps on.

    Whether a message had its outcome is looked for after its split was locked: whoever ends
    a split takes the inbox row in the same transaction.

    Raises:
        StateClash: Another attempt has gone on meanwhile, or the message had its outcome.
    """
    moves = sorted(
        ((step.split, step) for step in steps if step.split is not None),
        key=lambda one: one[0].id,
    )
    for move, step in moves:
        await _move(connection, sql, move)
        if step.skips_inbox and not move.is_last:
            done = await connection.fetch(
                sql["seen"], [step.id], [step.generation], [day_of(step.birth_ms)]
            )
            if done:
                raise StateClash(f"The split {step.id} had its outcome.")


async def _move(connection: Pooled, sql: Mapping[str, str], move: SplitMove) -> None:
    if move.is_last:
        status = await connection.execute(
            sql["end_split"], move.id, move.before, move.generation
        )
    elif move.before:
        status = await connection.execute(
            sql["move_split"], move.id, move.before, move.generation, move.after, move.places,
            move.digest,
        )  # fmt: skip
    else:
        status = await connection.execute(
            sql["begin_split"], move.id, move.origin, move.generation, move.sequence or None,
            move.after, move.places, move.digest,
        )  # fmt: skip
    if status.endswith(" 0"):
        raise StateClash(f"The split {move.id} was gone on with elsewhere.")
    if move.is_failed and move.sequence:
        await connection.execute(sql["fail_sequences"], [move.sequence])
    if move.source is not None and move.sequence:
        await connection.execute(
            sql["adopt_source"], move.sequence, move.source.generation,
            move.source.birth_ms or 0, move.source.head,
        )  # fmt: skip


def split_of(row: Row) -> SplitRow:
    """Build a split from its row."""
    return SplitRow(
        id=row["id"].hex,
        origin=row["origin"],
        sequence="" if row["sequence"] is None else row["sequence"].hex,
        next=row["next"],
        places=row["places"],
        digest=row["digest"],
    )
