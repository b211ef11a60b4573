"""A fleet under faults, by seed: one outcome for each id, each sequence whole, in order."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest

from rolekit.model.envelope import decode_head
from rolekit.model.reassembly import ClosedBy, Closing, Rules, replaces, walk
from rolekit.store.base import Opening, Outcome
from tests.property.jumping import run
from tests.property.sabotage import SABOTAGES, many_tokens
from tests.property.simulated_app import APPS, Leaf
from tests.property.simulation import ROOTS, World

if TYPE_CHECKING:
    from collections.abc import Callable

    from rolekit.model.parts import Hole
    from rolekit.model.position import Path

pytestmark = pytest.mark.timeout(120)

SEEDS = 60
"""For each of the apps."""


@pytest.mark.parametrize("name", APPS)
def test_whatever_happens_each_message_has_one_outcome_and_each_sequence_comes_in_order(
    name: str,
) -> None:
    for seed in range(SEEDS):
        try:
            check(name, seed)
        except BaseException as error:
            error.add_note(f"seed {seed} of {name}: check({name!r}, {seed}) shows it again")
            raise


@pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda each: each.__name__)
def test_a_protection_that_is_taken_away_is_missed(
    sabotage: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    sabotage(monkeypatch)

    with pytest.raises(AssertionError):
        check_many(range(SEEDS))


def check_many(seeds: range) -> None:
    for seed in seeds:
        for name in APPS:
            check(name, seed)


def test_several_tokens_of_a_sequence_do_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    many_tokens(monkeypatch)

    check_many(range(10))


def check(name: str, seed: int) -> None:
    """Let one seed live, and see that what is left is right."""
    world = World(name, seed)

    run(world.live())

    check_outcomes(world)
    check_effects(world)
    check_causes(world)
    assert world.fate.changed == []
    openings = [step.opening for step in world.record.steps if step.opening is not None]
    outer = [opening for opening in openings if opening.gather.endswith(".collect")]
    assert len(outer) <= ROOTS
    for opening in outer:
        check_sequence(world, opening)


def check_outcomes(world: World) -> None:
    """Each id ends in one effect or dead letter, one generation after the other."""
    record = world.record
    assert record.twice == []
    assert record.early == []
    ids = {packet.id for packet in record.seen if world.is_message(packet)}
    ids |= {p.id for step in record.steps for p in step.outputs} | set(world.roots)
    for id_ in ids:
        own = sorted(key for key in record.outcomes if key[0] == id_)
        outcomes = [record.outcomes[key] for key in own]
        assert [generation for _, generation in own] == list(range(len(own)))
        assert outcomes, f"{id_} was never recorded"
        assert outcomes[-1] in {Outcome.DONE, Outcome.DEAD}
        assert Outcome.DONE not in outcomes[:-1]
        if world.app.name != "Waits":
            assert Outcome.DEAD not in outcomes[:-1]
        is_dead = [row for row in world.tables.dead.values() if row.packet.id == id_]
        assert len(is_dead) == outcomes.count(Outcome.DEAD)


def check_effects(world: World) -> None:
    """What a handler wrote is there once for each message that was done, and no more."""
    aside = f"{world.app.name}.aside"
    queues = {packet.id: packet.queue for packet in world.record.seen}
    done = [
        step.id
        for step in world.record.steps
        if step.outcome is Outcome.DONE and queues.get(step.id) == aside
    ]
    written = [write.args[0] for write in world.tables.writes if "into side" in write.sql]
    assert sorted(map(str, written)) == sorted(done)
    tallies = [
        msgspec.json.decode(body)["sides"]
        for key, (_, body) in world.tables.states.items()
        if key.key == "all"
    ]
    assert sum(tallies) == len(done)


def check_causes(world: World) -> None:
    """Whatever was sent was sent by something that took effect."""
    record = world.record
    sent = {packet.id for step in record.steps for packet in step.outputs}
    sent |= {due.packet.id for step in record.steps for due in step.later}
    seen = {packet.id for packet in record.seen if world.is_message(packet)}
    assert seen <= sent | set(world.roots)


def check_sequence(world: World, opening: Opening) -> None:
    """What was released is what was recorded, in order, once; of one run of the split."""
    row = world.tables.sequences.rows[opening.id]
    held = recorded(world, opening)
    policy = world.plan.handlers[opening.gather].on_dead
    expected = walk(opening.id, opening.cursor, held, Rules(on_failed=policy, limit=10**6))
    runs = [
        cast("tuple[int, tuple[Any, ...], int, bool]", write.args[1:])
        for write in world.tables.writes
        if "into released" in write.sql and write.args[0] == opening.id
    ]
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
