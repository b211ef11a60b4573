"""The way in, with its idempotency keys, and the way out, with its replies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolekit.errors import Unavailable
from rolekit.model.position import stream_number, unpack
from rolekit.store.base import Commit, Due, KeyRow, Reply, Saved, Streamed
from rolekit.store.postgres import rows
from rolekit.store.postgres.steps import PostgresBase
from rolekit.store.postgres.work import SequenceWork, Tokens
from rolekit.store.streams import begun, placed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rolekit.database import Pooled
    from rolekit.model.envelope import Packet


class IntakeStore(PostgresBase):
    """What clients ask of the store."""

    async def accept(
        self,
        packets: Sequence[Packet],
        later: Sequence[Due],
        key: KeyRow | None,
        streamed: Sequence[Streamed] = (),
    ) -> tuple[Commit, KeyRow | None]:
        """Take in what a client sends, in one commit; or nothing, if its key is taken."""
        commit = Commit()
        async with self._db.transaction() as connection:
            if key is not None:
                saved = key.reply
                taken = await connection.fetchval(
                    self._sql["insert_key"], key.key, key.body_hash,
                    saved and saved.status, saved and saved.media_type,
                    saved and [part for header in saved.headers for part in header],
                    saved and saved.body,
                )  # fmt: skip
                if taken is None:
                    return commit, await self._prior(connection, key.key)
            if streamed:
                tokens = await self._stream(connection, streamed, commit)
                later = [*later, *tokens.later]
            await self._send(connection, packets, commit)
            await self._plan(connection, later, commit)
        return commit, None

    async def _stream(
        self, connection: Pooled, streamed: Sequence[Streamed], commit: Commit
    ) -> Tokens:
        """Give positions of streams, each locked until the commit, and send with them."""
        groups: dict[str, list[Streamed]] = {}
        for one in streamed:
            groups.setdefault(one.opening.id, []).append(one)
        given = await connection.fetch(
            self._sql["next_of_streams"],
            list(groups),
            [group[0].name for group in groups.values()],
            [group[0].opening.gather for group in groups.values()],
            [len(group) for group in groups.values()],
        )
        ends = {row["sequence"].hex: row["next"] for row in given}
        firsts = {sequence: ends[sequence] - len(group) for sequence, group in groups.items()}
        new = [groups[sequence][0].opening for sequence, at in firsts.items() if at == 0]
        closings = [c for s, at in firsts.items() for c in begun(s, at, ends[s])]
        work = SequenceWork(connection, self._sql, self._clock.now_ms())
        await work.open(new)
        tokens = await work.close(closings)
        packets = [
            placed(one, firsts[sequence] + n)
            for sequence, group in groups.items()
            for n, one in enumerate(group)
        ]
        await self._send(connection, packets + tokens.now, commit)
        return tokens

    async def backlogs(self, sequences: Sequence[str]) -> dict[str, int]:
        """Say how many positions of these streams were given and not released."""
        async with self._db.connection() as connection:
            found = await connection.fetch(self._sql["backlogs"], list(sequences))
        return {
            row["id"].hex: row["tail"] - stream_number(unpack(row["next"])) for row in found
        }

    async def find_key(self, key: str) -> KeyRow | None:
        """Look up an idempotency key."""
        async with self._db.connection() as connection:
            row = await connection.fetchrow(self._sql["find_key"], key)
        return None if row is None else _key_of(key, row)

    async def _prior(self, connection: Pooled, key: str) -> KeyRow:
        """Read the request that took a key first.

        Raises:
            Unavailable: It was dropped just now; asked again, the key is free.
        """
        row = await connection.fetchrow(self._sql["find_key"], key)
        if row is None:
            raise Unavailable("The first request with this key was forgotten just now.")
        return _key_of(key, row)

    async def replies(self, after: Mapping[str, int], limit: int) -> list[Reply]:
        """Read replies by root, each after its `n`, in order of `n`."""
        async with self._db.connection() as connection:
            found = await connection.fetch(
                self._sql["replies"], list(after), list(after.values()), limit
            )
        return [rows.reply_of(row) for row in found]

    async def last_reply(self, root: str, types: Sequence[str]) -> Reply | None:
        """Read the newest reply of these types, or the failure, of a root."""
        async with self._db.connection() as connection:
            row = await connection.fetchrow(self._sql["last_reply"], root, list(types))
        return None if row is None else rows.reply_of(row)


def _key_of(key: str, row: rows.Row) -> KeyRow:
    reply = None
    if row["status"] is not None:
        flat: list[str] = row["headers"] or []
        reply = Saved(
            status=row["status"],
            media_type=row["media_type"],
            body=row["body"],
            headers=tuple(zip(flat[::2], flat[1::2], strict=True)),
        )
    return KeyRow(key=key, body_hash=row["body_hash"].hex, reply=reply)
