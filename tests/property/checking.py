"""What must be true, whatever happened: one outcome for each id, effects once."""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec
import structlog

from rolekit.store.base import Outcome
from tests.property.checking_lines import check_batches, check_keys, check_stream
from tests.property.checking_sequences import check_in_time, check_sequence
from tests.property.jumping import run
from tests.property.simulated_fate import ROOTS
from tests.property.simulation import World

if TYPE_CHECKING:
    from collections.abc import MutableMapping


BUGS: list[str] = []
"""Errors that the pipeline survived, and that nothing but a bug of its own can be."""


def hear_of_bugs() -> None:
    """Note what is logged with a traceback; leave out the rest, which is many faults."""
    level = structlog.make_filtering_bound_logger(logging.ERROR)
    structlog.configure(wrapper_class=level, processors=[_note])


def _note(_: object, __: str, event: MutableMapping[str, Any]) -> NoReturn:
    if event.get("exc_info"):
        BUGS.append(f"{event['event']}: {traceback.format_exc()}")
    raise structlog.DropEvent


def check(name: str, seed: int) -> None:
    """Let one seed live, and see that what is left is right."""
    BUGS.clear()
    world = World(name, seed)

    run(world.live())

    check_outcomes(world)
    check_effects(world)
    check_causes(world)
    check_keys(world)
    check_stream(world)
    check_batches(world)
    assert world.fate.changed == []
    openings = [step.opening for step in world.record.steps if step.opening is not None]
    outer = [opening for opening in openings if opening.gather.endswith(".collect")]
    assert len(outer) <= ROOTS
    for opening in outer:
        (check_in_time if world.role.ends_s else check_sequence)(world, opening)
    assert BUGS == [], BUGS[0]


def check_outcomes(world: World) -> None:
    """Each id ends in one effect or dead letter, one generation after the other."""
    record = world.record
    assert record.twice == []
    assert record.early == []
    ids = {packet.id for packet in record.seen if world.is_message(packet)}
    ids |= {p.id for step in record.steps for p in step.outputs} | given(world)
    for id_ in ids:
        own = sorted(key for key in record.outcomes if key[0] == id_)
        outcomes = [record.outcomes[key] for key in own]
        assert [generation for _, generation in own] == list(range(len(own)))
        assert outcomes, f"{id_} was never recorded"
        assert outcomes[-1] in {Outcome.DONE, Outcome.DEAD}
        assert Outcome.DONE not in outcomes[:-1]
        if world.role.dead == "stay":
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
    # Of a message that was dropped, a generation that frees its key.
    seen = {packet.id for packet in record.seen if world.is_message(packet)}
    assert seen <= sent | given(world)


def given(world: World) -> set[str]:
    """List what came from outside."""
    streamed = (packets for _, packets in world.record.streamed.values())
    return set(world.roots) | {packet.id for packets in streamed for packet in packets}
