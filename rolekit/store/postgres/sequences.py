"""Reading sequences for a release, and sealing the run it begins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rolekit.model.position import Path, pack, unpack
from rolekit.store.base import Commit, SequenceView, SplitRow
from rolekit.store.postgres import rows
from rolekit.store.postgres.split_work import split_of
from rolekit.store.postgres.steps import PostgresBase
from rolekit.store.postgres.together import Together
from rolekit.store.postgres.work import SequenceWork, ready_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.connections import Pooled
    from rolekit.model.reassembly import Closing
    from rolekit.store.postgres.rows import Row


class _MovedOn(Exception):
    """The cursor of a sequence is not where a run began: what was written is taken back."""


class SequenceStore(PostgresBase):
    """What a gather needs beside the commit of its steps."""

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - as PostgresBase
        super().__init__(*args, **options)
        self._views: dict[int, Together[str, SequenceView]] = {}

    async def view(self, sequence: str, limit: int, *, whole: bool) -> SequenceView | None:
        """Read a sequence and its next `limit` closings; from the first one if `whole`."""
        if whole:
            return (await self._read([sequence], limit, whole=True)).get(sequence)
        together = self._views.get(limit)
        if together is None:
            together = self._views[limit] = Together(
                lambda sequences: self._read(sorted(sequences), limit, whole=False)
            )
        return (await together.ask([sequence])).get(sequence)

    async def _read(
        self, sequences: list[str], limit: int, *, whole: bool
    ) -> dict[str, SequenceView]:
        async with self._db.connection() as connection:
            found = await connection.fetch(self._sql["view"], sequences, limit, whole)
        groups: dict[str, list[Row]] = {}
        for row in found:
            groups.setdefault(row["id"].hex, []).append(row)
        return {
            sequence: _view_of(sequence, group, limit, whole=whole)
            for sequence, group in groups.items()
        }

    async def seal(
        self, sequence: str, before: Path, end: Path, closings: Sequence[Closing]
    ) -> Path | None:
        """Fix where the run that begins at `before` ends, for this and every later attempt."""
        if not closings:
            try:
                async with self._db.connection() as connection:
                    return await self._seal(connection, sequence, before, end)
            except _MovedOn:
                return None
        try:
            async with self._db.transaction() as connection:
                # Positions first, as everybody locks them before sequences.
                await connection.execute(
                    self._sql["insert_parts"], *rows.closing_columns(closings)
                )
                return await self._seal(connection, sequence, before, end)
        except _MovedOn:
            return None

    async def _seal(self, connection: Pooled, sequence: str, before: Path, end: Path) -> Path:
        sealed: bytes | None = await connection.fetchval(
            self._sql["seal"], sequence, pack(before), pack(end)
        )
        if sealed is None:
            raise _MovedOn
        return unpack(sealed)

    async def find_split(self, message_id: str) -> SplitRow | None:
        """Say how far a split has come that takes several commits; None: none goes on."""
        async with self._db.connection() as connection:
            row = await connection.fetchrow(self._sql["find_split"], message_id)
        return None if row is None else split_of(row)

    async def expire(self, now_ms: int, limit: int) -> Commit:
        """Note which sequences' time is up, and let their gathers release what there is."""
        commit = Commit()
        async with self._db.transaction() as connection:
            found = await connection.fetch(self._sql["expire"], now_ms, limit)
            work = SequenceWork(connection, self._sql, now_ms)
            await work.tell([ready_of(row) for row in found if not row["is_ready"]])
            await self._send(connection, work.tokens.now, commit)
        return commit


def _view_of(sequence: str, group: Sequence[Row], limit: int, *, whole: bool) -> SequenceView:
    """Build the view of one sequence from its rows, one for each closing or one without."""
    row = group[0]
    cursor = rows.cursor_of(row)
    closings = [rows.closing_of(sequence, part) for part in group if part["path"] is not None]
    ahead = closings if whole else [c for c in closings if c.path >= cursor.next]
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
        horizon=ahead[-1].path if len(ahead) >= limit else None,
        is_ordered=row["is_ordered"],
        is_stream=row["is_stream"],
        runs=row["runs"],
    )
