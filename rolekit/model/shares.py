"""Who consumes which partition: evenly, and moving as few as possible.

Every instance of a role reads the same rows and comes to the same answer, so nobody has to
be asked. Rows that two have read at different times do no harm: a partition is taken only
when it is free, and given only by its owner.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def shares(owners: Mapping[int, int | None], members: Iterable[int]) -> dict[int, set[int]]:
    """Divide partitions among members.

    Args:
        owners: Of each partition, who has it now; None, or somebody who is no member: nobody.
        members: Who may have some.

    Returns:
        For each member the partitions that it should have: as many as any other has, or one
        more. It keeps what it has, as far as that is not too much.
    """
    held: dict[int, list[int]] = {member: [] for member in sorted(members)}
    if not held:
        return {}
    free: list[int] = []
    for number in sorted(owners):
        owner = owners[number]
        mine = free if owner is None else held.get(owner, free)
        mine.append(number)
    least, more = divmod(len(owners), len(held))
    # Who has one more than others must have is decided by its number, so that it stays so
    # while some have given what they have too much and others have not yet.
    by_size = sorted(held, key=lambda it: (-min(len(held[it]), least + 1), it))
    for place, member in enumerate(by_size):
        quota = least + (place < more)
        free += held[member][quota:]
        del held[member][quota:]
    free.sort(reverse=True)
    for place, member in enumerate(by_size):
        while len(held[member]) < least + (place < more):
            held[member].append(free.pop())
    return {member: set(numbers) for member, numbers in held.items()}
