"""Dead letters: parked in the step that gave up, closed by a replay or a drop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from rolekit.errors import CodecError
from rolekit.model.envelope import (
    Attempts,
    Head,
    Kind,
    Packet,
    decode_head,
    encode_head,
)
from rolekit.model.reassembly import ClosedBy, Closing
from rolekit.store.base import Commit, DeadLetterRow
from rolekit.store.postgres.steps import PostgresBase
from rolekit.store.postgres.work import SequenceWork

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.model.position import Frame
    from rolekit.store.postgres.rows import Row


class DeadLetterStore(PostgresBase):
    """What an operator asks of the store."""

    async def dead_letters(
        self, *, handler: str | None = None, ids: Sequence[str] | None = None, limit: int = 100
    ) -> list[DeadLetterRow]:
        """List open dead letters, newest first; closed ones too when asked by id."""
        async with self._db.connection() as connection:
            if ids is None:
                found = await connection.fetch(self._sql["list_dead"], handler, limit)
            else:
                found = await connection.fetch(self._sql["show_dead"], list(ids), limit)
        return [_dead_of(row) for row in found]

    async def replay(self, ids: Sequence[str], *, force: bool) -> Commit:
        """Close these dead letters and send their messages as the next generation."""
        commit = Commit()
        async with self._db.transaction() as connection:
            closed = await connection.fetch(
                self._sql["close_dead"], list(ids), "replayed", force
            )
            commit.fresh = {(row["message_id"].hex, row["generation"]) for row in closed}
            await self._send(
                connection, [next_generation(_packet(row)) for row in closed], commit
            )
        return commit

    async def drop(self, ids: Sequence[str]) -> int:
        """Close these dead letters for good; return how many were open.

        What waits for them goes on without: a position closes as dropped, a sequence whose
        release was given up ends as failed.
        """
        commit = Commit()
        async with self._db.transaction() as connection:
            closed = await connection.fetch(self._sql["drop_dead"], list(ids))
            heads = [head for row in closed if (head := _readable(row["head"])) is not None]
            ended = [head.sequence for head in heads if head.kind is Kind.RELEASE]
            if ended:
                await connection.execute(self._sql["fail_sequences"], ended)
            closings = [_dropped(head.frames[-1]) for head in heads if head.frames]
            if closings:
                work = SequenceWork(connection, self._sql, self._clock.now_ms())
                tokens = await work.close(closings)
                await self._send(connection, tokens.now, commit)
                await self._plan(connection, tokens.later, commit)
        return len(closed)

    async def count_dead(self) -> dict[str, int]:
        """Count open dead letters by handler."""
        async with self._db.connection() as connection:
            found = await connection.fetch(self._sql["count_dead"])
        return {row["handler"]: row["n"] for row in found}


def _readable(head: bytes) -> Head | None:
    try:
        return decode_head(head)
    except CodecError:
        return None


def _dropped(frame: Frame) -> Closing:
    return Closing(sequence=frame.sequence, path=frame.path, by=ClosedBy.DROPPED)


def next_generation(packet: Packet) -> Packet:
    """Return the packet of a replay: born now, with its attempts forgotten."""
    head = msgspec.structs.replace(decode_head(packet.head), attempts=Attempts())
    return msgspec.structs.replace(
        packet, generation=packet.generation + 1, birth_ms=None, head=encode_head(head)
    )


def _packet(row: Row) -> Packet:
    return Packet(
        queue=row["queue"],
        id=row["message_id"].hex,
        generation=row["generation"],
        birth_ms=row["birth_ms"],
        head=row["head"],
        body=row["body"],
    )


def _dead_of(row: Row) -> DeadLetterRow:
    return DeadLetterRow(
        id=row["id"],
        packet=_packet(row),
        handler=row["handler"],
        type=row["type"],
        reason=row["reason"],
        traceback=row["traceback"],
        attempts=row["attempts"],
        at_ms=row["at_ms"],
        is_closed=row["closed_at"] is not None,
        is_forced=row["is_forced"],
    )
