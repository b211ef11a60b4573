"""What an operator asks of sequences that are not over, answered from memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolekit.errors import CodecError
from rolekit.model.envelope import Head, decode_head, handler_of
from rolekit.store.flights import Flight, Held, Where
from rolekit.store.memory_sequences import OPEN, SequenceRow

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rolekit.model.envelope import Packet
    from rolekit.store.memory_tables import MemoryTables


def flights_in(tables: MemoryTables, limit: int) -> list[Flight]:
    """List open sequences, what moved longest ago first."""
    sequences = tables.sequences
    open_ones = [row for row in sequences.rows.values() if row.state == OPEN]
    ordered = sorted(open_ones, key=lambda row: (row.moved_ms, row.opening.id))[:limit]
    return [_flight_of(row, *sequences.streams.get(row.opening.id, ("", 0))) for row in ordered]


def _flight_of(row: SequenceRow, stream: str, tail: int) -> Flight:
    opening = row.opening
    return Flight(
        id=opening.id,
        gather=opening.gather,
        token=decode_head(opening.token.head),
        source=_head_of(opening.source),
        source_id=opening.source.id,
        cursor=row.cursor,
        moved_ms=row.moved_ms,
        released=row.released,
        is_ready=row.is_ready,
        is_expired=row.is_expired,
        waits=opening.waits,
        deadline_ms=opening.deadline_ms,
        next=row.parts.get(row.cursor.next),
        stream=stream,
        tail=tail,
        late=row.late,
        repeated=row.repeated,
        conflicting=row.conflicting,
    )


def held_in(tables: MemoryTables, sequences: Sequence[str], ids: Sequence[str]) -> list[Held]:
    """List packets that stand in these sequences, or are to move them on, or have an id."""
    names = set(sequences)
    return [one for one in _everywhere(tables) if _names(one.head) & names or one.id in ids]


def _names(head: Head) -> set[str]:
    return {head.sequence, *(frame.sequence for frame in head.frames)}


def _everywhere(tables: MemoryTables) -> Iterator[Held]:
    for due in tables.schedule.values():
        yield _held(due.packet, "schedule", due_ms=due.due_ms, why=due.why)
    for row in tables.outbox.values():
        yield from (_held(packet, "outbox") for packet in row.packets)
    for aside in (aside for waiting in tables.of_keys.lists.values() for aside in waiting):
        yield _held(aside.packet, "behind")
    for dead in tables.dead.values():
        if not dead.is_closed:
            yield _held(dead.packet, "dead letter", why=dead.reason, dead_letter=dead.id)


def _held(
    packet: Packet, where: Where, *, due_ms: int = 0, why: str = "", dead_letter: str = ""
) -> Held:
    head = _head_of(packet)
    return Held(
        where=where,
        queue=handler_of(packet, head),
        head=head,
        id=packet.id,
        generation=packet.generation,
        due_ms=due_ms,
        why=why,
        dead_letter=dead_letter,
    )


def _head_of(packet: Packet) -> Head:
    try:
        return decode_head(packet.head)
    except CodecError:
        return Head()
