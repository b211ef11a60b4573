"""Reading sequences for a release, and sealing the run it begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolekit.model.position import Path, pack, unpack
from rolekit.store.base import Commit, SequenceView
from rolekit.store.postgres import rows
from rolekit.store.postgres.steps import PostgresBase
from rolekit.store.postgres.work import SequenceWork, ready_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.model.reassembly import Closing


class SequenceStore(PostgresBase):
    """What a gather needs beside the commit of its steps."""

    async def view(self, sequence: str, limit: int, *, whole: bool) -> SequenceView | None:
        """Read a sequence and its next `limit` closings; from the first one if `whole`."""
        async with self._db.transaction() as connection:
            row = await connection.fetchrow(self._sql["view_sequence"], sequence)
            if row is None:
                return None
            cursor = rows.cursor_of(row)
            begin = b"" if whole else pack(cursor.next)
            above = [] if whole else [pack(path) for path in cursor.open_ancestors()]
            found = await connection.fetch(
                self._sql["view_parts"], sequence, begin, limit, above
            )
        closings = [rows.closing_of(sequence, part) for part in found]
        is_cut = sum(1 for part in found if part["path"] >= begin) >= limit
        return SequenceView(
            gather=row["gather"],
            cursor=cursor,
            released=row["released"],
            emitted=row["emitted"],
            sealed=None if row["sealed"] is None else unpack(row["sealed"]),
            is_open=row["state"] == 0,
            is_expired=row["is_expired"],
            source=rows.source_of(row),
            closings={closing.path: closing for closing in closings},
            horizon=closings[-1].path if is_cut else None,
        )

    async def seal(
        self, sequence: str, before: Path, end: Path, closings: Sequence[Closing]
    ) -> Path:
        """Fix where the run that begins at `before` ends, for this and every later attempt."""
        async with self._db.transaction() as connection:
            if closings:
                await connection.execute(
                    self._sql["insert_parts"], *rows.closing_columns(closings)
                )
            sealed: bytes | None = await connection.fetchval(
                self._sql["seal"], sequence, pack(before), pack(end)
            )
        return end if sealed is None else unpack(sealed)

    async def expire(self, now_ms: int, limit: int) -> Commit:
        """Note which sequences' time is up, and let their gathers release what there is."""
        commit = Commit()
        async with self._db.transaction() as connection:
            found = await connection.fetch(self._sql["expire"], now_ms, limit)
            work = SequenceWork(connection, self._sql, now_ms)
            await work.tell([ready_of(row) for row in found if not row["is_ready"]])
            await self._send(connection, work.tokens.now, commit)
        return commit
