"""What must be true of keys, streams and batches, whatever happened."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import msgspec

from rolekit.model.envelope import decode_head
from rolekit.model.keys import partition_in
from rolekit.model.position import stream_path
from rolekit.model.reassembly import ClosedBy
from rolekit.store.base import Outcome
from tests.property.checking_sequences import recorded, released
from tests.property.simulated_lines import KEYS, Tick, Tock

if TYPE_CHECKING:
    from rolekit.model.reassembly import Closing
    from tests.property.simulation import World


def check_keys(world: World) -> None:
    """Of each key all comes in the order of its arrival, one after the other, by its owner."""
    assert world.record.fenced == [], "somebody took effect who was no owner any more"
    assert world.overlaps == [], "two turns of a key at once"
    assert world.ahead == [], "a turn began before one that came earlier was over"
    served: dict[str, list[tuple[str, int]]] = {key: [] for key in KEYS}
    for write in world.tables.writes:
        if "into served" in write.sql:
            served[str(write.args[0])].append((str(write.args[1]), int(str(write.args[2]))))
    dropped = {
        row.packet.id for row in world.tables.dead.values() if row.closed_how == "dropped"
    }
    for key, turns in served.items():
        assert [count for _, count in turns] == list(range(1, len(turns) + 1))
        ids = [id_ for id_, _ in turns]
        arrived = world.arrived(key)
        assert ids == [id_ for id_ in arrived if id_ in ids]
        waits = world.role.dead != "stay"
        for id_ in arrived:
            if id_ not in ids:
                assert id_ in dropped if waits else world.record.last_keyed[id_] is Outcome.DEAD
    assert not world.tables.of_keys.held or world.role.dead == "stay"
    assert not world.tables.of_keys.lists


def check_stream(world: World) -> None:
    """A stream is whole and in order, and so is what its runs give."""
    for sequence, (opening, packets) in world.record.streamed.items():
        held = recorded(world, opening)
        expected: list[object] = []
        for number, packet in enumerate(packets):
            closing = held[stream_path(number)]
            tick = msgspec.json.decode(packet.body, type=Tick)
            expected += _label(closing, tick)
        runs = released(world, sequence)
        items = [item for _, part, _, _ in runs for item in part]
        assert [it if isinstance(it, Tock) else it.dead_letter_id for it in items] == expected
        assert sum(dropped for _, _, dropped, _ in runs) == len(packets) - len(items)
        offsets = [offset for offset, part, _, _ in runs if part]
        assert offsets == sorted(set(offsets))
        assert _drawn(world) == offsets, "outputs of a stream left in another order"
        painted = [w.args[0] for w in world.tables.writes if "into painted" in w.sql]
        assert painted == offsets


def _label(closing: Closing, tick: Tick) -> list[object]:
    if closing.by is ClosedBy.PART:
        tock = msgspec.json.decode(closing.body, type=Tock)
        assert tock.n == tick.n
        return [tock]
    return [closing.dead_letter] if closing.by is ClosedBy.FAILED else []


def _drawn(world: World) -> list[int]:
    """List what was drawn in the order in which it first came to the painter's queue."""
    first: dict[int, None] = {}
    for packet in world.record.seen:
        if partition_in(packet.queue) and decode_head(packet.head).type == "Drawn":
            first[msgspec.json.decode(packet.body)["offset"]] = None
    return list(first)


def check_batches(world: World) -> None:
    """What a batch did was committed with the outcome of all its items, each its own."""
    stored = 0
    for steps in world.record.together:
        writes = [write for step in steps for write in step.writes]
        batches = [write.args[0] for write in writes if "into batches" in write.sql]
        assert [sorted(cast("tuple[str, ...]", ids)) for ids in batches] == [
            sorted(step.id for step in steps)
        ]
        kept = [str(write.args[0]) for write in writes if "into stored" in write.sql]
        assert sorted(kept) == sorted(s.id for s in steps if s.outcome is Outcome.DONE)
        stored += len(kept)
    queue = f"{world.app.name}.store"
    queues = {packet.id: packet.queue for packet in world.record.seen}
    done = [step for step in world.record.steps if step.outcome is Outcome.DONE]
    assert stored == len([step for step in done if queues.get(step.id) == queue])
    tallies = {key.key: body for key, (_, body) in world.tables.states.items()}
    if stored:
        assert msgspec.json.decode(tallies["stored"])["sides"] == stored
