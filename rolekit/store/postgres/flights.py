"""What an operator asks of sequences that are not over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolekit.errors import CodecError
from rolekit.model.envelope import Head, KeyedHead, decode_head
from rolekit.model.position import unpack
from rolekit.model.reassembly import ClosedBy, Closing
from rolekit.store.flights import Flight, Held
from rolekit.store.postgres import rows
from rolekit.store.postgres.steps import PostgresBase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.store.postgres.rows import Row

MOST = 1000
"""Packets read of each place."""


class FlightStore(PostgresBase):
    """Open sequences, and who holds them up."""

    async def flights(self, limit: int) -> list[Flight]:
        """List open sequences, what moved longest ago first."""
        async with self._db.connection() as connection:
            found = await connection.fetch(self._sql["flights"], limit)
        return [_flight_of(row) for row in found]

    async def held(self, sequences: Sequence[str], ids: Sequence[str] = ()) -> list[Held]:
        """List packets that stand in these sequences, or are to move them on, or have an id."""
        async with self._db.connection() as connection:
            found = await connection.fetch(self._sql["held"], list(sequences), MOST, list(ids))
        return [_held_of(row) for row in found]


def _flight_of(row: Row) -> Flight:
    return Flight(
        id=row["id"].hex,
        gather=row["gather"],
        token=_head_of(row["token_head"]),
        source=_head_of(row["source_head"]),
        source_id=row["source_id"].hex,
        cursor=rows.cursor_of(row),
        moved_ms=row["moved_ms"],
        released=row["released"],
        is_ready=row["is_ready"],
        is_expired=row["is_expired"],
        waits=row["waits"],
        deadline_ms=row["deadline_ms"],
        next=None if row["path"] is None else _closing_of(row),
        stream=row["stream"] or "",
        tail=row["tail"] or 0,
        late=row["late"],
        repeated=row["repeated"],
        conflicting=row["conflicting"],
    )


def _closing_of(row: Row) -> Closing:
    return Closing(
        sequence=row["sequence"].hex,
        path=unpack(row["path"]),
        by=ClosedBy(row["closed_by"]),
        total=row["total"],
        detail=row["detail"],
        dead_letter=row["dead_letter"],
    )


def _held_of(row: Row) -> Held:
    head = _head_of(row["head"])
    return Held(
        where=row["place"],
        queue=head.handler if isinstance(head, KeyedHead) else row["queue"],
        head=head,
        id=row["id"].hex,
        generation=row["generation"],
        due_ms=row["due_ms"],
        why=row["why"],
        dead_letter=row["dead_letter"],
    )


def _head_of(data: bytes) -> Head:
    try:
        return decode_head(data)
    except CodecError:
        return Head()
