"""What must be true of sequences and streams, whatever happened."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import msgspec

from rolekit.model.envelope import decode_head
from rolekit.model.reassembly import ClosedBy, Closing, Rules, replaces, walk
from tests.property.jumping import LoopClock
from tests.property.simulated_app import Leaf

if TYPE_CHECKING:
    from rolekit.model.parts import Hole
    from rolekit.model.position import Path
    from rolekit.store.base import Opening
    from tests.property.simulation import World


def check_sequence(world: World, opening: Opening) -> None:
    """What was released is what was recorded, in order, once; of one run of the split."""
    row = world.tables.sequences.rows[opening.id]
    held = recorded(world, opening)
    policy = world.plan.handlers[opening.gather].on_dead
    expected = walk(opening.id, opening.cursor, held, Rules(on_failed=policy, limit=10**6))
    runs = released(world, opening.id)
    is_parked = any(
        decode_head(dead.packet.head).sequence == opening.id and not dead.is_closed
        for dead in world.tables.dead.values()
    )
    items = [item for _, part, _, _ in runs for item in part]
    for (offset, part, _, is_last), (following, *_) in pairwise(runs):
        assert following == offset + len(part)
        assert not is_last
    assert [label(item) for item in items] == [
        label_of(closing) for closing in expected.items[: len(items)]
    ]
    check_splits(world, [item for item in items if isinstance(item, Leaf)])
    if is_parked:  # the gather gave up: what it did before is a prefix
        return
    assert expected.cursor.is_finished
    assert row.cursor.is_finished
    assert len(items) == len(expected.items)
    if not world.plan.handlers[opening.gather].whole:
        assert sum(dropped for _, _, dropped, _ in runs) == expected.dropped
    assert runs[-1][3]
    over = [reply for _, reply in world.tables.replies if reply.type == "Over"]
    assert (
        len([reply for reply in over if reply.root == decode_head(opening.token.head).root])
        == 1
    )


OVERDUE_S = 60
"""A host that is lost while it should have ended a sequence is taken over from by then."""


def check_in_time(world: World, opening: Opening) -> None:
    """A sequence ends in order at its deadline, whatever is still to come."""
    runs = released(world, opening.id)
    for (offset, part, _, is_last), (following, *_) in pairwise(runs):
        assert following == offset + len(part)
        assert not is_last
    leaves = [item for _, part, _, _ in runs for item in part if isinstance(item, Leaf)]
    check_splits(world, leaves)
    parked = [dead for dead in world.tables.dead.values() if not dead.is_closed]
    if any(decode_head(dead.packet.head).sequence == opening.id for dead in parked):
        return  # the gather gave up
    assert runs[-1][3]
    ends = [
        world.record.at_s[step.key]
        for step in world.record.steps
        if step.release is not None and step.release.sequence == opening.id
    ]
    due_s = opening.deadline_ms / 1000 - LoopClock.START_S
    assert ends[-1] <= due_s + OVERDUE_S, "a sequence ended long after its deadline"


def released(world: World, sequence: str) -> list[tuple[int, tuple[Any, ...], int, bool]]:
    """List the runs of a sequence: offset, parts, how many were dropped, whether it is over."""
    return [
        cast("tuple[int, tuple[Any, ...], int, bool]", write.args[1:])
        for write in world.tables.writes
        if "into released" in write.sql and write.args[0] == sequence
    ]


def recorded(world: World, opening: Opening) -> dict[Path, Closing]:
    """Replay what was committed about a sequence: of each position, the closing that counts."""
    held: dict[Path, Closing] = {}
    for step in world.record.steps:
        for closing in step.closings:
            if closing.sequence != opening.id:
                continue
            before = held.get(closing.path)
            if before is None or replaces(before, closing, waits=opening.waits):
                held[closing.path] = closing
    return held


def label(item: Leaf | Hole) -> object:
    """Name what a gather was given."""
    return item if isinstance(item, Leaf) else item.dead_letter_id


def label_of(closing: Closing) -> object:
    """Name what a closing should have given."""
    if closing.by is ClosedBy.FAILED:
        return closing.dead_letter
    return msgspec.json.decode(closing.body, type=Leaf)


def check_splits(world: World, leaves: list[Leaf]) -> None:
    """All of it comes from one run of the split, and below it of one run for each piece."""
    assert len({leaf.run for leaf in leaves}) <= 1
    places = [(leaf.i, leaf.j) for leaf in leaves]
    assert places == sorted(set(places))
    for leaf in leaves:
        assert leaf.i < world.fate.splits[leaf.run]
        assert len({other.deep for other in leaves if other.i == leaf.i}) == 1
