"""What a commit does about keys: fences first, then what is held, freed or struck."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolekit.store.keys import Fence, KeyedStep, lost

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rolekit.connections import Pooled
    from rolekit.store.base import Step


async def check_fences(connection: Pooled, sql: str, fences: Iterable[Fence]) -> None:
    """Keep partitions from new owners until the transaction ends.

    Raises:
        FenceLost: One has a newer epoch already.
    """
    wanted = sorted(set(fences))
    found = await connection.fetch(sql, *_of_fences(wanted))
    if len(found) < len(wanted):
        there = {Fence(row["role"], row["n"], row["epoch"]) for row in found}
        raise lost(next(fence for fence in wanted if fence not in there))


def fence_columns(steps: Iterable[Step]) -> tuple[list[object], ...]:
    """List the partitions of steps, once each: roles, numbers, epochs."""
    return _of_fences(sorted({step.keyed.fence for step in steps if step.keyed is not None}))


def _of_fences(fences: Sequence[Fence]) -> tuple[list[object], ...]:
    return tuple(list(column) for column in zip(*fences, strict=True)) or ([], [], [])


async def begin_keyed(
    connection: Pooled, sql: Mapping[str, str], steps: Sequence[Step]
) -> None:
    """Check the fences of steps, and strike from their lists what has its outcome with them.

    Raises:
        FenceLost: One partition has another owner.
    """
    keyed = [step.keyed for step in steps if step.keyed is not None]
    if not keyed:
        return
    await check_fences(connection, sql["check_fences"], (each.fence for each in keyed))
    listed = [each.listed for each in keyed if each.listed is not None]
    if listed:
        await connection.execute(sql["strike"], listed)


async def settle_keys(
    connection: Pooled, sql: Mapping[str, str], steps: Iterable[Step]
) -> None:
    """Hold and free keys as fresh steps say."""
    keyed = [(step, step.keyed) for step in steps if step.keyed is not None]
    for name, wanted in (
        ("hold_keys", [one for one in keyed if one[1].holds]),
        ("free_keys", [one for one in keyed if one[1].frees and not one[1].holds]),
    ):
        if wanted:
            await connection.execute(sql[name], *_columns(wanted))


def _columns(steps: Sequence[tuple[Step, KeyedStep]]) -> tuple[list[object], ...]:
    rows = sorted(
        (keyed.fence.role, keyed.key, keyed.fence.partition, step.id) for step, keyed in steps
    )
    return tuple(list(column) for column in zip(*rows, strict=True))
