"""Dead letters: parked in the step that gave up, closed by a replay or a drop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolekit.model.envelope import Packet
from rolekit.model.position import ROW
from rolekit.model.reassembly import Cursor
from rolekit.store.base import Commit, DeadLetterRow
from rolekit.store.keys import freeing
from rolekit.store.letters import OPEN, Letters, dropped, next_generation, readable
from rolekit.store.postgres import rows
from rolekit.store.postgres.steps import PostgresBase
from rolekit.store.postgres.work import SequenceWork, ready_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.connections import Pooled
    from rolekit.store.postgres.rows import Row


class DeadLetterStore(PostgresBase):
    """What an operator asks of the store."""

    async def dead_letters(
        self,
        which: Letters = OPEN,
        *,
        limit: int = 100,
    ) -> list[DeadLetterRow]:
        """List the dead letters that are meant, newest first."""
        async with self._db.connection() as connection:
            found = await connection.fetch(
                self._sql["list_dead"], which.answered, which.closed, which.handler, which.type,
                which.reason, which.since_ms, which.until_ms, list(which.prefixes), limit,
            )  # fmt: skip
        return [_dead_of(row) for row in found]

    async def replay(
        self, ids: Sequence[str], *, force: bool, answered: bool = False
    ) -> Commit:
        """Close these dead letters and send their messages as the next generation."""
        commit = Commit()
        async with self._db.transaction() as connection:
            closed = await connection.fetch(
                self._sql["replay_dead"], list(ids), force, answered
            )
            commit.fresh = {(row["message_id"].hex, row["generation"]) for row in closed}
            await self._send(
                connection, [next_generation(_packet(row)) for row in closed], commit
            )
        return commit

    async def edit(self, id_: str, head: bytes, body: bytes) -> bool:
        """Change the message of a dead letter that is not closed; say whether it was there."""
        async with self._db.connection() as connection:
            status = await connection.execute(self._sql["edit_dead"], id_, head, body)
        return str(status) == "UPDATE 1"

    async def drop(self, ids: Sequence[str]) -> int:
        """Close these dead letters for good; return how many were not closed.

        What waits for them goes on without: a position closes as dropped, a sequence whose
        release was given up ends as failed, a stream goes on behind that run, a key that is
        held goes on, and what they were to answer is open again.
        """
        commit = Commit()
        async with self._db.transaction() as connection:
            closed = await connection.fetch(self._sql["drop_dead"], list(ids))
            await self._send(connection, freeing(map(_packet, closed)), commit)
            heads = [head for row in closed if (head := readable(row["head"])) is not None]
            ended = [head.sequence for head in heads if head.is_release]
            if ended:
                await connection.execute(self._sql["fail_sequences"], ended)
                await self._skip_runs(connection, ended, commit)
            answers = [row["answers"] for row in closed if row["answers"]]
            if answers:
                await connection.execute(self._sql["answer_dead"], answers, False)  # noqa: FBT003
            closings = [closing for head in heads for closing in dropped(head)]
            if closings:
                work = SequenceWork(connection, self._sql, self._clock.now_ms())
                tokens = await work.close(closings)
                await self._send(connection, tokens.now, commit)
                await self._plan(connection, tokens.later, commit)
        return len(closed)

    async def _skip_runs(
        self, connection: Pooled, sequences: Sequence[str], commit: Commit
    ) -> None:
        """Let streams go on behind the run that was given up."""
        totals = rows.pack_cursor(Cursor((0, 0), (None, ROW)))[1]
        found = await connection.fetch(self._sql["skip_runs"], sequences, totals)
        if found:
            work = SequenceWork(connection, self._sql, self._clock.now_ms())
            await work.tell([ready_of(row) for row in found])
            await self._send(connection, work.tokens.now, commit)

    async def count_dead(self) -> dict[str, int]:
        """Count open dead letters by handler."""
        async with self._db.connection() as connection:
            found = await connection.fetch(self._sql["count_dead"])
        return {row["handler"]: row["n"] for row in found}


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
        told=row["told"],
        is_answered=row["is_answered"],
        answers=row["answers"],
        detail=row["detail"],
        closed_how=row["closed_how"] or "",
        is_edited=row["edited_at"] is not None,
    )
